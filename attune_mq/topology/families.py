"""Families and their instances: ``worker.{worker_id}.executions`` for one worker id."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import NamedTuple, TypeVar

from attune_mq.errors import InvalidInput
from attune_mq.topology import objects
from attune_mq.topology.contracts import Family, MessageContract
from attune_mq.topology.expansion import RETRY_INFIX, dead_letter_queue_name, expand
from attune_mq.topology.fields import MAX_NAME_BYTES, FrozenDict
from attune_mq.topology.model import Block, ExpandedTopology, Topology, UnknownName
from attune_mq.topology.reachability import grouped, reachable
from attune_mq.topology.source import Path

T = TypeVar("T", bound=Topology)

ONE_WORD = "[^.]+"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
LONGEST_INSTANCE_NAME_BYTES = MAX_NAME_BYTES - len(".retry.315360000000ms")
"""So that what the library adds to it still fits."""


def instantiate(topology: T, family: str, /, **parameters: str | int) -> T:
    """One instance of a family, as a topology that holds what belongs to the instance and the
    exchanges that it refers to: expanded, when ``topology`` is.

    It also has the message types of the file, with the family's own routes in place of the file's
    where both have one, so that a service of this instance can publish all that it publishes.
    Its queues and consumers have the keys and tags of the family with the parameters in place,
    so that it can be set up, published to and consumed like any other topology::

        worker = instantiate(topology, "worker", worker_id=7)
        worker.route("ExecutionRequested")

    Raises :class:`UnknownName` for a family that the file does not have, and for parameters
    other than the family's.
    """
    declared = topology.families.get(family)
    if declared is None:
        known = ", ".join(sorted(topology.families)) or "none"
        file = topology.sources.file
        raise UnknownName(f"{file} families: expected an entry {family!r}, found only: {known}")
    if set(parameters) != set(declared.parameters):
        expected, found = ", ".join(declared.parameters), ", ".join(parameters) or "none"
        where = topology.where("families", family, "parameters")
        raise UnknownName(f"{where}: expected the parameters {expected}, got {found}")
    fill = _filler({name: str(value) for name, value in parameters.items()})
    return _instance(topology, family, declared, fill)


def _filler(parameters: Mapping[str, str]) -> Callable[[str], str]:
    def fill(text: str) -> str:
        for name, value in parameters.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    return fill


def _instance(topology: T, key: str, family: Family, fill: Callable[[str], str]) -> T:
    update: dict[str, object] = {
        "queues": FrozenDict({k: _queue(queue, fill) for k, queue in family.queues.items()}),
        "bindings": tuple(_binding(binding, fill) for binding in family.bindings),
        "messages": FrozenDict(
            {
                **topology.messages,
                **{name: _contract(one, fill) for name, one in family.messages.items()},
            }
        ),
        "consumers": FrozenDict({fill(tag): spec for tag, spec in family.consumers.items()}),
        "families": FrozenDict(),
    }
    instance = topology.changed(topology.sources, **update)
    needed = exchanges_of(instance, topology)
    kept = {name: topology.exchanges[name] for name in topology.exchanges if name in needed}
    links = tuple(binding for binding in topology.bindings if _links(binding, needed))
    bindings = (*instance.bindings, *links)
    origins = _origins(topology, key, family, fill, links)
    sources = topology.sources.derived(origins)
    return instance.changed(sources, exchanges=FrozenDict(kept), bindings=bindings)


def _queue(queue: objects.Queue, fill: Callable[[str], str]) -> objects.Queue:
    name = fill(queue.name)
    if len(name.encode()) > LONGEST_INSTANCE_NAME_BYTES:
        raise InvalidInput(
            f"queue '{name}': expected a name of {LONGEST_INSTANCE_NAME_BYTES} bytes at most, "
            f"got {len(name.encode())}; use shorter parameters"
        )
    update: dict[str, object] = {"name": name}
    rule = queue.dead_letter
    if isinstance(rule, objects.DeadLetterTo) and rule.routing_key is not None:
        filled = rule.model_copy(update={"routing_key": fill(rule.routing_key)})
        update["dead_letter"] = filled
    return queue.model_copy(update=update)


def _binding(binding: objects.Binding, fill: Callable[[str], str]) -> objects.Binding:
    keys = tuple(fill(key) for key in binding.routing_keys)
    return binding.model_copy(
        update={"routing_key": fill(binding.routing_key), "routing_keys": keys}
    )


def _contract(contract: MessageContract, fill: Callable[[str], str]) -> MessageContract:
    return contract.model_copy(update={"routing_key": fill(contract.routing_key)})


def _links(binding: objects.Binding, exchanges: set[str]) -> bool:
    between = binding.destination_type == "exchange"
    return between and binding.destination in exchanges and binding.source in exchanges


def exchanges_of(part: Topology, whole: Topology) -> set[str]:
    """Keys of all exchanges of ``whole`` that what stands in ``part`` refers to, and of those
    that these are fed by or lead to as alternate or from a fanout of dead letters."""
    names = {binding.source for binding in part.bindings}
    names |= {b.destination for b in part.bindings if b.destination_type == "exchange"}
    names |= {contract.exchange for contract in part.messages.values()}
    for rule in (part.dead_letter, *(queue.dead_letter for queue in part.queues.values())):
        if isinstance(rule, objects.DeadLetterQueue | objects.OwnDeadLetterQueue) and rule.exchange:
            names.add(rule.exchange)
        elif isinstance(rule, objects.DeadLetterTo):
            names.add(rule.to)
    return _closed(names - {""} - set(objects.BUILT_IN_EXCHANGES), whole)


def _closed(names: set[str], whole: Topology) -> set[str]:
    """With alternates, and with the exchanges from which messages come to these."""
    exchanges = whole.exchanges.items()
    leading = [(key, one.alternate_exchange) for key, one in exchanges if one.alternate_exchange]
    leading += [
        (one.destination, one.source)
        for one in whole.bindings
        if one.destination_type == "exchange" and one.source
    ]
    return set(reachable(names, grouped(leading).__getitem__))


def _origins(
    topology: Topology,
    key: str,
    family: Family,
    fill: Callable[[str], str],
    links: tuple[objects.Binding, ...],
) -> dict[Path, Path]:
    inside: Path = ("families", key)
    origins: dict[Path, Path] = {("queues", k): (*inside, "queues", k) for k in family.queues}
    origins |= {("messages", k): (*inside, "messages", k) for k in family.messages}
    origins |= {("consumers", fill(t)): (*inside, "consumers", t) for t in family.consumers}
    own = len(family.bindings)
    origins |= {("bindings", i): (*inside, "bindings", i) for i in range(own)}
    for index, link in enumerate(links):
        origins[("bindings", own + index)] = ("bindings", topology.bindings.index(link))
    return origins


class Instance(NamedTuple):
    """``worker`` with ``worker_id`` 7."""

    family: str
    parameters: Mapping[str, str]

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.family} ({values})"


def instance_with_queue(topology: Topology, name: str) -> Instance | None:
    """The instance to which a queue of that name belongs, if there can be one."""
    for key, family in topology.families.items():
        for queue in family.queues.values():
            parameters = _parameters(queue.name, name)
            if parameters.keys() == set(family.parameters):
                return Instance(key, parameters)
    return None


def instance_with_key(topology: Topology, exchange: str, routing_key: str) -> Instance | None:
    """The instance that binds that routing key to that exchange, by name, if there can be one."""
    for key, family in topology.families.items():
        for binding in family.bindings:
            if topology.exchange_name(binding.source) == exchange:
                parameters = _parameters(binding.routing_key, routing_key)
                if parameters.keys() == set(family.parameters):
                    return Instance(key, parameters)
    return None


def including(topology: ExpandedTopology, instance: Instance) -> ExpandedTopology:
    """The topology with the queues and bindings of the instance in it, also beside those of other
    instances of the family."""
    part = instantiate(topology, instance.family, **instance.parameters)
    keys = {key: f"{instance} {key}" for key in part.queues}
    queues = {keys[key]: queue for key, queue in part.queues.items()}
    bindings = tuple(
        binding.model_copy(update={"destination": keys[binding.destination]})
        for binding in part.bindings
        if binding.destination_type == "queue"
    )
    return topology.changed(
        topology.sources,
        queues=FrozenDict({**topology.queues, **queues}),
        bindings=(*topology.bindings, *bindings),
    )


def including_all(topology: Topology, instances: Collection[Instance]) -> ExpandedTopology:
    """The topology with the queues and bindings of these instances in it."""
    return reduce(including, instances, expand(topology))


def instances_among(topology: Topology, queues: Collection[str]) -> tuple[Instance, ...]:
    """Those to which some of these queues of a broker belong, in the order of the queues.

    A queue that the library adds to one that is there too is taken for that, and not for an
    instance of its own: ``worker.{id}`` would otherwise have a worker ``7.dlq``.
    """
    expanded = expand(topology)
    own = {queue.name for queue in expanded.queues.values()}
    there = set(queues)
    found: dict[str, Instance] = {}
    for name in queues:
        if expanded.families and name not in own and not _is_added(name, there):
            instance = instance_with_queue(expanded, name)
            if instance is not None:
                found.setdefault(str(instance), instance)
    return tuple(found.values())


def _is_added(name: str, there: Collection[str]) -> bool:
    main = name.removesuffix(dead_letter_queue_name(""))
    return (main != name and main in there) or name.rpartition(RETRY_INFIX)[0] in there


def _parameters(template: str, text: str) -> dict[str, str]:
    """What the placeholders of ``template`` stand for in ``text``; nothing where it differs."""
    pieces = _PLACEHOLDER.split(template)
    pattern = "".join("(.+)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    match = re.fullmatch(pattern, text)
    if match is None:
        return {}
    found = dict(zip(pieces[1::2], match.groups(), strict=True))
    return found if _PLACEHOLDER.sub(lambda hole: found[hole[1]], template) == text else {}


def name_pattern(name: str, block: Block) -> str:
    """``name`` as a regular expression of what it is on the broker: each of the family's parameters
    stands for one word, since a dot parts the words of names and routing keys."""
    if not block.parameters:
        return literal(name)
    placeholders = "|".join(re.escape(f"{{{parameter}}}") for parameter in block.parameters)
    parts = re.split(f"({placeholders})", name)
    return "".join(ONE_WORD if index % 2 else literal(part) for index, part in enumerate(parts))


def literal(name: str) -> str:
    """A name as a regular expression that matches it alone, for Python as for RabbitMQ."""
    return re.sub(r"([.^$*+?()\[\]{}|\\])", r"\\\1", name)

"""A topology together with an instance of a family: what the broker has when both are set up."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import reduce
from typing import NamedTuple

from attune_mq.topology.expansion import RETRY_INFIX, dead_letter_queue_name, expand
from attune_mq.topology.families import instantiate
from attune_mq.topology.fields import FrozenDict
from attune_mq.topology.model import Topology

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


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


def including(topology: Topology, instance: Instance) -> Topology:
    """The topology with the queues and bindings of the instance in it, also beside those of other
    instances of the family. Give it an expanded one."""
    part = instantiate(topology, instance.family, **instance.parameters)
    keys = {key: f"{instance} {key}" for key in part.queues}
    queues = {keys[key]: queue for key, queue in part.queues.items()}
    bindings = tuple(
        binding.model_copy(update={"destination": keys[binding.destination]})
        for binding in part.bindings
        if binding.destination_type == "queue"
    )
    return topology.model_copy(
        update={
            "queues": FrozenDict({**topology.queues, **queues}),
            "bindings": (*topology.bindings, *bindings),
        }
    )


def including_all(topology: Topology, instances: Collection[Instance]) -> Topology:
    """The topology, expanded, with the queues and bindings of these instances in it."""
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

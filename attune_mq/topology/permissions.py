"""The least permissions that a service needs, as the patterns that RabbitMQ takes for a user.

What asks for what (https://www.rabbitmq.com/docs/access-control, and measured on 3.10, 4.0, 4.3):

* declaring asks for *configure*; with a dead letter exchange also for *read* on the queue and
  *write* on that exchange, with an alternate exchange for *read* on the exchange and *write* on
  the alternate;
* a binding asks for *write* on its destination and *read* on its source;
* consuming asks for *read*, publishing for *write*. A consumer of this library publishes too: a
  copy to its own or its retry queue by the default exchange, a dead letter to its exchange;
* looking (a passive declaration) asks for nothing up to RabbitMQ 4.0, later for any of the three.
  Who publishes to the instances of a family looks for a consumer there; for that it gets *write*,
  with which messages can be brought to a queue and not be taken out of it.

Topic permissions, which are a thing of their own, are not set here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from attune_mq.topology.arguments import ALTERNATE_EXCHANGE, DEAD_LETTER_EXCHANGE, release
from attune_mq.topology.declaration import (
    BindingDeclaration,
    Declaration,
    QueueDeclaration,
    declarations,
    private_declarations,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.families import instantiate, name_pattern
from attune_mq.topology.model import Block, ExpandedTopology, Topology
from attune_mq.topology.objects import DEFAULT_EXCHANGE_AS_SHOWN, DeadLetterTo
from attune_mq.topology.routing import Router
from attune_mq.topology.selection import needed_by, services

SERVER_NAMED = r"amq\.gen-.*"
LOOKING_IS_FREE = (4, 0)
"""The last release that was seen to let everybody look."""
NOTHING = "^$"

Permission = Literal["configure", "write", "read"]


class Need(NamedTuple):
    """``pattern`` matches the name of the exchange or queue, and ``why`` says what asks for it."""

    permission: Permission
    pattern: str
    why: str


@dataclass(frozen=True)
class Permissions:
    """Three patterns, as ``rabbitmqctl set_permissions`` takes them, and what led to them."""

    configure: str
    write: str
    read: str
    needs: tuple[Need, ...]


def acl(
    topology: Topology, service: str, *, verify: bool = False, version: str | None = None
) -> Permissions:
    """What ``service`` needs in order to set up its part of the topology
    (``setup_infrastructure(…, service=service)``), to publish and to consume.

    ``verify``: what it needs where another service sets up (``mode="verify"``).
    ``version``: of the broker; else the one that the file expects, else any. After RabbitMQ 4.0
    even looking needs a permission: with ``verify`` that is *read*, and for the queues of a
    family's instances to which the service publishes it is *write*.

    A parameter of a family stands for one word: ``worker\\.[^.]+\\.executions``.

    Raises :class:`~attune_mq.topology.model.UnknownName` for a service that the file does not
    name.
    """
    expected = topology.broker.version if topology.broker else ""
    looking_is_free = release(version or expected) <= LOOKING_IS_FREE
    topology = expand(topology)
    needs: list[Need] = []
    for part, pattern_of in _parts(topology, service):
        needs += _runtime_needs(part, service, pattern_of)
        if not verify:
            needs += _setup_needs(part, pattern_of)
        elif not looking_is_free:
            needs += _looking_needs(part, pattern_of, {need.pattern for need in needs})
    if not looking_is_free:
        needs += _presence_needs(topology, service, {need.pattern for need in needs})
    distinct = tuple(sorted(set(needs)))
    return Permissions(
        configure=_pattern(distinct, "configure"),
        write=_pattern(distinct, "write"),
        read=_pattern(distinct, "read"),
        needs=distinct,
    )


PatternOf = Callable[[str], str]


def _parts(topology: Topology, service: str) -> Iterator[tuple[ExpandedTopology, PatternOf]]:
    """The service's part of the file and of each family, with what makes a pattern of a name."""
    yield needed_by(topology, service), _patterns(topology)
    for key, family in topology.families.items():
        instance = _any_instance(topology, key)
        if service in services(instance):
            yield needed_by(instance, service), _patterns(family)


def _any_instance(topology: Topology, family: str) -> Topology:
    """With the parameters' places where their values would be."""
    parameters = {name: f"{{{name}}}" for name in topology.families[family].parameters}
    return instantiate(topology, family, **parameters)


def _patterns(block: Block) -> PatternOf:
    return lambda name: name_pattern(name or DEFAULT_EXCHANGE_AS_SHOWN, block)


def _runtime_needs(part: ExpandedTopology, service: str, pattern_of: PatternOf) -> Iterator[Need]:
    for message_type, contract in part.messages.items():
        exchange = part.exchange_name(contract.exchange)
        if service in contract.publishers:
            yield Need("write", pattern_of(exchange), f"publishes {message_type}")
    for tag, spec in part.consumers.items():
        queue = part.queues[spec.queue]
        if queue.belongs_to_a_connection:
            yield from _private_needs(part, spec.queue, pattern_of)
        own = pattern_of(queue.name) if queue.name else SERVER_NAMED
        yield Need("read", own, f"consumes as {tag}")
        yield Need("write", pattern_of(""), f"retries what {tag} could not handle")
        if isinstance(queue.dead_letter, DeadLetterTo):
            exchange = part.exchange_name(queue.dead_letter.to)
            yield Need("write", pattern_of(exchange), f"dead-letters what {tag} gives up")


def _private_needs(part: ExpandedTopology, key: str, pattern_of: PatternOf) -> Iterator[Need]:
    """A queue that belongs to a connection is made by its consumer, never by setup."""
    declaration, bindings = private_declarations(part, key)
    queue = pattern_of(declaration.name) if declaration.name else SERVER_NAMED
    yield from _declaring_needs(declaration, pattern_of)
    for binding in bindings:
        yield Need("write", queue, "binds the queue of its own connection")
        yield Need("read", pattern_of(binding.source), "binds the queue of its own connection")


def _setup_needs(part: ExpandedTopology, pattern_of: PatternOf) -> Iterator[Need]:
    for declaration in declarations(part):
        if isinstance(declaration, BindingDeclaration):
            why = f"binds {declaration.name}"
            yield Need("write", pattern_of(declaration.destination), why)
            yield Need("read", pattern_of(declaration.source), why)
        else:
            yield from _declaring_needs(declaration, pattern_of)


def _declaring_needs(declaration: Declaration, pattern_of: PatternOf) -> Iterator[Need]:
    own = pattern_of(declaration.name) if declaration.name else SERVER_NAMED
    private = isinstance(declaration, QueueDeclaration) and (
        declaration.exclusive or not declaration.name
    )
    what = "queue of its own connection" if private else declaration.kind
    yield Need("configure", own, f"declares the {what}")
    others = {ALTERNATE_EXCHANGE: "an alternate", DEAD_LETTER_EXCHANGE: "a dead letter"}
    for argument, kind in others.items():
        exchange = declaration.arguments.get(argument)
        if exchange is not None:
            yield Need("read", own, f"declares it with {kind} exchange")
            yield Need("write", pattern_of(exchange), f"declares it as {kind} exchange")


def _looking_needs(
    part: ExpandedTopology, pattern_of: PatternOf, touched: set[str]
) -> Iterator[Need]:
    for declaration in declarations(part):
        pattern = pattern_of(declaration.name)
        if not isinstance(declaration, BindingDeclaration) and pattern not in touched:
            yield Need("read", pattern, "looks whether it is there")


def _presence_needs(topology: Topology, service: str, touched: set[str]) -> Iterator[Need]:
    """Instances come and go: who publishes to one asks whether a consumer is there."""
    for key, family in topology.families.items():
        instance, pattern_of = _any_instance(topology, key), _patterns(family)
        router = Router(instance)
        for contract in (instance.messages[name] for name in family.messages):
            exchange = instance.exchange_name(contract.exchange)
            queues = router.route(exchange, contract.routing_key).queues
            patterns = {pattern_of(name) for name in queues if service in contract.publishers}
            for pattern in patterns - touched:
                yield Need("write", pattern, "looks whether a consumer is there")


def _pattern(needs: Iterable[Need], permission: Permission) -> str:
    names = sorted({need.pattern for need in needs if need.permission == permission})
    return f"^({'|'.join(names)})$" if names else NOTHING

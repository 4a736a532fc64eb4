"""Rules about the arguments and properties with which queues and exchanges are declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.arguments import (
    EXCHANGE_ARGUMENTS,
    OVERFLOW,
    PLUGIN_QUEUE_ARGUMENTS,
    QUEUE_ARGUMENTS,
    QUEUE_TYPE,
    QUORUM,
    STREAM,
    Kind,
    Text,
    Versions,
)
from attune_mq.topology.declaration import exchange_arguments
from attune_mq.topology.exchange_types import X_MATCH
from attune_mq.topology.network import QueueNode
from attune_mq.topology.objects import EXCHANGE_TYPES
from attune_mq.topology.source import Where
from attune_mq.topology.validation import nearest, shown


@rule("error")
def unknown_argument(facts: Facts) -> Iterator[Fault]:
    """An argument that RabbitMQ does not know.

    RabbitMQ accepts an argument that it does not know, keeps it, shows it, and does nothing with
    it; nor does it compare it when the queue is declared again. So a typo such as `x-mesage-ttl` is
    declared without an error, and messages are kept for ever. A public project limited its retries
    with `x-max-retries`, which has never existed: its messages were retried without end.

    Fix: Write the name that RabbitMQ knows, or the queue's own key for it, or take the argument
    out. A finding on an argument for a plugin can be suppressed.
    """
    for fact in facts.queues:
        for argument in fact.queue.arguments:
            if argument not in QUEUE_ARGUMENTS and argument not in PLUGIN_QUEUE_ARGUMENTS:
                where = facts.where_argument(fact, argument)
                yield _unknown(where, f"queue {fact.name}", argument, [*QUEUE_ARGUMENTS])
    for key, exchange in facts.whole.exchanges.items():
        for argument in exchange.arguments if exchange.type in EXCHANGE_TYPES else ():
            if argument not in EXCHANGE_ARGUMENTS:
                where = facts.where("exchanges", key, "arguments", argument)
                yield _unknown(where, f"exchange {exchange.name}", argument, [*EXCHANGE_ARGUMENTS])


def _unknown(where: Where, owner: str, argument: str, known: list[str]) -> Fault:
    hint = nearest(argument, known)
    message = f"{owner}: RabbitMQ does not know the argument {argument!r} and ignores it"
    return Fault(where, message + (f"; {hint}" if hint else ""))


@rule("error")
def argument_of_wrong_type(facts: Facts) -> Iterator[Fault]:
    """An argument whose value has the wrong type.

    A text where a number belongs is refused with 406 PRECONDITION_FAILED, and the queue is not
    made. In YAML a pair of quotation marks is enough: `"1000"` is a text.

    Fix: Write the value as the type that the message names: quotation marks make a text.
    """
    for each in _valued(facts):
        if not each.has_type:
            yield each.fault(each.kind.type_name)


@rule("error")
def argument_value_refused(facts: Facts) -> Iterator[Fault]:
    """An argument with a value that RabbitMQ refuses.

    The type is right and the value is not: a queue that expires after 0 ms, a priority of 300, an
    overflow behaviour that does not exist. The declaration is answered with 406
    PRECONDITION_FAILED, the channel is closed, and a service that declares at its start does not
    start.

    Fix: Write a value that the message names.
    """
    for each in _valued(facts):
        if each.has_type and not each.kind.takes(each.value):
            yield each.fault(str(each.kind))


_HEADERS_MATCH = Text(choices=("all", "any", "all-with-x", "any-with-x"))
"""What ``x-match`` takes, of a binding to a headers exchange."""


class _Valued(NamedTuple):
    """An argument whose value RabbitMQ checks."""

    owner: str
    argument: str
    kind: Kind
    value: Any
    where: Callable[[], Where]
    """Asked for a fault only: a file has many arguments and few faults."""

    @property
    def has_type(self) -> bool:
        return type(self.value) is self.kind.type

    def fault(self, expected: str) -> Fault:
        message = f"{self.owner}: {self.argument} takes {expected}, not {shown(self.value)}"
        return Fault(self.where(), message)


def _valued(facts: Facts) -> Iterator[_Valued]:
    for fact in facts.queues:
        for name, value in fact.arguments.items():
            if name in QUEUE_ARGUMENTS:
                where = partial(facts.where_argument, fact, name)
                kind = QUEUE_ARGUMENTS[name].kind
                yield _Valued(f"queue {fact.name}", name, kind, value, where)
    for key, exchange in facts.whole.exchanges.items():
        for name, value in exchange_arguments(facts.whole, exchange).items():
            if name in EXCHANGE_ARGUMENTS:
                where = partial(facts.where, "exchanges", key, "arguments", name)
                kind = EXCHANGE_ARGUMENTS[name]
                yield _Valued(f"exchange {exchange.name}", name, kind, value, where)
    for bound in facts.network.bindings:
        value = bound.arguments.get(X_MATCH)
        if value is not None and facts.exchange_types.get(bound.source) == "headers":
            where = partial(facts.where, *bound.path, "arguments", X_MATCH)
            yield _Valued(f"binding {bound.name}", X_MATCH, _HEADERS_MATCH, value, where)


@rule("error")
def argument_not_for_queue_type(facts: Facts) -> Iterator[Fault]:
    """An argument that the type of the queue does not take.

    Each type of queue has its own arguments, and refuses those of the other types with 406
    PRECONDITION_FAILED: priorities are for classic queues, a delivery limit is for quorum queues, a
    stream has neither a message TTL nor dead letters. The usual way to it is to change the type of
    a queue and leave its arguments as they were.

    Fix: Take the argument out, or give the queue the type that takes it.
    """
    for fact in facts.queues:
        for argument in fact.arguments:
            known = QUEUE_ARGUMENTS.get(argument)
            if known is None or not Versions(known.since).may_be(facts.version):
                continue
            if fact.type not in known.queue_types:
                where = facts.where_argument(fact, argument)
                types = " and ".join(known.queue_types)
                message = f"queue {fact.name}: {argument} is for {types} queues, {_type_of(fact)}"
                yield Fault(where, message)


def _type_of(fact: QueueNode) -> str:
    if QUEUE_TYPE in fact.arguments:
        return f"this one is a {fact.type} queue"
    return "this one has no type, and so the virtual host's, which is classic by default"


_PROPERTIES = {
    "exclusive": "exclusive: true",
    "auto_delete": "auto_delete: true",
    "durable": "durable: false",
    "name": "a name that the server chooses",
}


@rule("error")
def property_not_for_queue_type(facts: Facts) -> Iterator[Fault]:
    """A quorum queue or stream that is exclusive, auto-delete, transient or server-named.

    Quorum queues and streams are replicated and always durable. RabbitMQ refuses one that is
    exclusive, auto-delete, not durable, or to be named by the server, with 406 PRECONDITION_FAILED.
    A file-wide type for queues (`defaults`) does not touch such queues; a type written on one of
    them does.

    Fix: Leave the property out, or the type: such a queue can only be a classic one.
    """
    for fact in facts.queues:
        if fact.type in (QUORUM, STREAM):
            for field in _refused_properties(fact):
                where = facts.where(*fact.path, field)
                yield Fault(
                    where, f"{fact.type} queue {fact.name} cannot have {_PROPERTIES[field]}"
                )


def _refused_properties(fact: QueueNode) -> Iterator[str]:
    if fact.queue.exclusive:
        yield "exclusive"
    if fact.queue.auto_delete:
        yield "auto_delete"
    if not fact.queue.durable:
        yield "durable"
    if fact.queue.is_server_named:
        yield "name"


@rule("error")
def reject_publish_dlx_on_quorum(facts: Facts) -> Iterator[Fault]:
    """A quorum queue whose overflow is `reject-publish-dlx`.

    A full classic queue with `reject-publish-dlx` refuses what is published to it, and dead-letters
    it. A quorum queue accepts the argument and does another thing: it drops its oldest messages
    (`drop-head`) and confirms the new ones, so publishers never learn that the queue is full.
    (Measured on 3.10 and 4.3.)

    Fix: Use `overflow: reject-publish`, or a classic queue.
    """
    for fact in facts.queues:
        overflow = fact.arguments.get(OVERFLOW)
        if fact.type == "quorum" and overflow == "reject-publish-dlx":
            message = f"quorum queue {fact.name} takes {overflow} for drop-head"
            yield Fault(facts.where_argument(fact, OVERFLOW), message)

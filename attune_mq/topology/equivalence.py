"""What a broker answers to the declaration of a queue or exchange that exists already.

RabbitMQ compares durable, auto-delete, exclusive, the type of an exchange, and those arguments
that the type of the *existing* queue knows, in an order of its own; it names the first that
differs in ``406 PRECONDITION_FAILED - inequivalent arg …`` and closes the channel. An argument
that it does not know for that type is never compared: a changed one is silently ignored.
That holds for misspelt arguments, and for those of another type (``x-delivery-limit`` on a
classic queue is refused at creation, but not when the queue is there).

Source: https://www.rabbitmq.com/docs/queues#property-equivalence, and measured on RabbitMQ 3.10.8,
4.0.5 and 4.3.6. A version in between follows the last of these before it. The setting
``quorum_queue.property_equivalence.relaxed_checks_on_redeclaration``, which no client can see, is
taken to be off, as it is by default. Policies are never compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from attune_mq.topology.arguments import (
    ALTERNATE_EXCHANGE,
    CLASSIC,
    QUEUE_TYPE,
    QUEUE_TYPES,
    compared_arguments,
    release,
)
from attune_mq.topology.declaration import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)


class Difference(NamedTuple):
    """``field`` is the broker's word: ``durable``, ``type``, ``x-message-ttl``. ``None`` stands
    for an argument that is not there, or that has no value."""

    field: str
    expected: Any
    found: Any


@dataclass(frozen=True)
class Equal:
    """The declaration succeeds and changes nothing."""


@dataclass(frozen=True)
class SilentlyIgnored:
    """The declaration succeeds, changes nothing, and what it asks for is not what there is: the
    broker does not compare these arguments for a queue or exchange of this type."""

    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Inequivalent:
    """The declaration is refused and the channel closed: 406, for ``exclusive`` 405. The broker
    names the first of ``differences``; with that one corrected it would name the next."""

    differences: tuple[Difference, ...]


Answer = Equal | SilentlyIgnored | Inequivalent


@dataclass(frozen=True)
class BrokerRules:
    """What decides, beside the two declarations: the broker's version, such as ``4.0.5``, and the
    virtual host's default queue type, which a queue without ``x-queue-type`` takes if it can."""

    version: str
    default_queue_type: str = "classic"

    def compared_arguments(self, queue_type: str) -> list[str]:
        """The arguments that the broker compares when a queue of this type is declared again."""
        return compared_arguments(queue_type, release(self.version))

    def queue_type(self, queue: QueueDeclaration) -> str:
        """The type of the queue that this declaration makes."""
        named = queue.arguments.get(QUEUE_TYPE)
        if named is not None:
            return str(named)
        replicable = queue.durable and not queue.exclusive and not queue.auto_delete
        return self.default_queue_type if replicable else CLASSIC


def answer_to_queue(
    declared: QueueDeclaration,
    existing: QueueDeclaration,
    rules: BrokerRules,
    *,
    own: bool = False,
) -> Answer:
    """What the broker says to ``declared`` where ``existing`` is. ``own``: the connection that
    declares is the one to which an exclusive queue belongs; any other is locked out."""
    differences = _exclusive_differences(declared, existing, own=own)
    differences += _field_differences(
        ("durable", _is_stored(declared), _is_stored(existing)),
        ("auto_delete", declared.auto_delete, existing.auto_delete),
    )
    wanted = dict(declared.arguments)
    wanted.setdefault(QUEUE_TYPE, rules.queue_type(declared))
    present = {QUEUE_TYPE: CLASSIC, **existing.arguments}
    return _answer(differences, wanted, present, rules.compared_arguments(str(present[QUEUE_TYPE])))


def answer_to_exchange(declared: ExchangeDeclaration, existing: ExchangeDeclaration) -> Answer:
    """What the broker says to ``declared`` where ``existing`` is. The same on all versions, but for
    a type that the broker does not know at all: 3.10 answers that by closing the connection."""
    differences = _field_differences(
        ("type", declared.type, existing.type),
        ("durable", declared.durable, existing.durable),
        ("auto_delete", declared.auto_delete, existing.auto_delete),
        ("internal", declared.internal, existing.internal),
    )
    return _answer(differences, declared.arguments, existing.arguments, (ALTERNATE_EXCHANGE,))


def uncompared_arguments(
    declared: ExchangeDeclaration | QueueDeclaration, version: str
) -> tuple[str, ...]:
    """Those of which an agreement tells nothing: the broker has the object, and does not look
    whether it has these arguments. A queue without ``x-queue-type`` may be of any type, as the
    virtual host's default is, which AMQP does not tell."""
    if isinstance(declared, ExchangeDeclaration):
        compared = {ALTERNATE_EXCHANGE}
    else:
        named = declared.arguments.get(QUEUE_TYPE)
        types = QUEUE_TYPES if named is None else (str(named),)
        compared = {name for each in types for name in compared_arguments(each, release(version))}
    return tuple(name for name in declared.arguments if name not in compared)


def binding_identity(binding: BindingDeclaration) -> Hashable:
    """Two bindings of one identity are one binding. A client can see two that differ by nothing
    but the width of an integer in their arguments; here they are the same."""
    return (
        binding.source,
        binding.destination_type,
        binding.destination,
        binding.routing_key,
        comparable(dict(binding.arguments)),
    )


def comparable(value: Any) -> Hashable:
    """A value as the broker compares it: integers of any width are equal, but an integer, a
    boolean and a text never are; the order of a table does not matter."""
    if isinstance(value, Mapping):
        return ("table", frozenset((key, comparable(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return ("array", tuple(comparable(item) for item in value))
    return (type(value).__name__, value)


def written(value: Any) -> str:
    """A field or argument as RabbitMQ's messages have it: ``none``, ``true``, ``1000``, ``a``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _is_stored(queue: QueueDeclaration) -> bool:
    """An exclusive queue is transient whatever it asks for, since it dies with its connection."""
    return queue.durable and not queue.exclusive


def _exclusive_differences(
    declared: QueueDeclaration, existing: QueueDeclaration, *, own: bool
) -> tuple[Difference, ...]:
    if declared.exclusive != existing.exclusive:
        return (Difference("exclusive", declared.exclusive, existing.exclusive),)
    if existing.exclusive and not own:
        return (Difference("exclusive", True, "true, to another connection"),)
    return ()


def _field_differences(*fields: tuple[str, Any, Any]) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, expected, found) for name, expected, found in fields if expected != found
    )


def _answer(
    differences: tuple[Difference, ...],
    wanted: Mapping[str, Any],
    present: Mapping[str, Any],
    compared: Sequence[str],
) -> Answer:
    differences += _argument_differences(wanted, present, compared)
    if differences:
        return Inequivalent(differences)
    others = sorted((wanted.keys() | present.keys()) - set(compared))
    ignored = _argument_differences(wanted, present, others)
    return SilentlyIgnored(ignored) if ignored else Equal()


def _argument_differences(
    wanted: Mapping[str, Any], present: Mapping[str, Any], names: Sequence[str]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, wanted.get(name), present.get(name))
        for name in names
        if _compared(wanted, name) != _compared(present, name)
    )


def _compared(arguments: Mapping[str, Any], name: str) -> Hashable:
    """An argument that is not there is not the same as one without a value."""
    return (name in arguments, comparable(arguments.get(name)))

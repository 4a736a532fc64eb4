"""A topology as the ordered list of what a broker is asked for, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attune_mq.topology.arguments import (
    ALTERNATE_EXCHANGE,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    DEAD_LETTER_STRATEGY,
    QUEUE_ARGUMENTS,
)
from attune_mq.topology.fields import to_plain
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import DeadLetterTo, Exchange, Queue
from attune_mq.topology.source import Path


@dataclass(frozen=True)
class ExchangeDeclaration:
    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    path: Path = ()
    """The path in the topology, for :meth:`Topology.where`."""

    kind = "exchange"


@dataclass(frozen=True)
class QueueDeclaration:
    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    path: Path = ()

    kind = "queue"


@dataclass(frozen=True)
class BindingDeclaration:
    source: str
    destination: str
    destination_type: str
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    path: Path = ()

    kind = "binding"

    @property
    def name(self) -> str:
        return f"{self.source} -> {self.destination} [{self.routing_key}]"


Declaration = ExchangeDeclaration | QueueDeclaration | BindingDeclaration


def declarations(whole: ExpandedTopology) -> tuple[Declaration, ...]:
    """Exchanges, then queues, then bindings, each in the order of the file, additions included.

    Queues that belong to the connection which declares them, and their bindings, are left out:
    their consumer makes them, see :func:`private_declarations`. So are families, which exist
    once they are instantiated.
    """
    private = {key for key, queue in whole.queues.items() if queue.belongs_to_a_connection}
    return (
        *(_exchange(whole, key) for key in whole.exchanges),
        *(_queue(whole, key) for key in whole.queues if key not in private),
        *(
            _binding(whole, index)
            for index, binding in enumerate(whole.bindings)
            if binding.destination_type == "exchange" or binding.destination not in private
        ),
    )


def private_declarations(
    whole: ExpandedTopology, queue: str
) -> tuple[QueueDeclaration, tuple[BindingDeclaration, ...]]:
    """One queue, by its key, with its bindings: what its consumer declares for itself."""
    bindings = tuple(
        _binding(whole, index)
        for index, binding in enumerate(whole.bindings)
        if binding.destination_type == "queue" and binding.destination == queue
    )
    return _queue(whole, queue), bindings


def _exchange(whole: ExpandedTopology, key: str) -> ExchangeDeclaration:
    exchange = whole.exchanges[key]
    return ExchangeDeclaration(
        name=exchange.name,
        type=exchange.type,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        internal=exchange.internal,
        arguments=exchange_arguments(whole, exchange),
        path=("exchanges", key),
    )


def _queue(whole: ExpandedTopology, key: str) -> QueueDeclaration:
    queue = whole.queues[key]
    return QueueDeclaration(
        name=queue.name,
        durable=queue.durable,
        exclusive=queue.exclusive,
        auto_delete=queue.auto_delete,
        arguments=queue_arguments(whole, queue),
        path=("queues", key),
    )


def _binding(whole: ExpandedTopology, index: int) -> BindingDeclaration:
    binding = whole.bindings[index]
    to_queue = binding.destination_type == "queue"
    destination = (
        whole.queues[binding.destination].name
        if to_queue
        else whole.exchange_name(binding.destination)
    )
    return BindingDeclaration(
        source=whole.exchange_name(binding.source),
        destination=destination,
        destination_type=binding.destination_type,
        routing_key=binding.routing_key,
        arguments=to_plain(binding.arguments),
        path=("bindings", index),
    )


def queue_arguments(topology: ExpandedTopology, queue: Queue) -> dict[str, Any]:
    """What a queue is declared with."""
    arguments: dict[str, Any] = to_plain(queue.arguments)
    for row in QUEUE_ARGUMENTS.values():
        value = getattr(queue, row.field) if row.field else None
        if value is not None and row.field != "dead_letter":
            arguments[row.name] = value
    rule = queue.dead_letter
    if isinstance(rule, DeadLetterTo):
        arguments[DEAD_LETTER_EXCHANGE] = topology.exchange_name(rule.to)
        if rule.routing_key is not None:
            arguments[DEAD_LETTER_ROUTING_KEY] = rule.routing_key
        if rule.strategy is not None:
            arguments[DEAD_LETTER_STRATEGY] = rule.strategy
    return arguments


def exchange_arguments(topology: Topology, exchange: Exchange) -> dict[str, Any]:
    """What an exchange is declared with."""
    arguments: dict[str, Any] = to_plain(exchange.arguments)
    if exchange.alternate_exchange is not None:
        arguments[ALTERNATE_EXCHANGE] = topology.exchange_name(exchange.alternate_exchange)
    return arguments

"""The arguments with which a queue or exchange is declared, in AMQP's words.

Source: https://www.rabbitmq.com/docs/queues#optional-arguments. Only whole numbers, strings,
booleans, lists and tables: pika cannot encode a floating-point number.
"""

from __future__ import annotations

from typing import Any

from attune_mq.topology.fields import thawed
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import DeadLetterTo, Exchange, Queue

ARGUMENT_OF_FIELD = {
    "type": "x-queue-type",
    "ttl_ms": "x-message-ttl",
    "expires_ms": "x-expires",
    "max_length": "x-max-length",
    "max_length_bytes": "x-max-length-bytes",
    "overflow": "x-overflow",
    "delivery_limit": "x-delivery-limit",
    "max_priority": "x-max-priority",
    "single_active_consumer": "x-single-active-consumer",
}
"""Fields of a queue that become an argument of the same value."""

FIELD_OF_ARGUMENT = {
    **{argument: field.removesuffix("_ms") for field, argument in ARGUMENT_OF_FIELD.items()},
    "x-dead-letter-exchange": "dead_letter",
    "x-dead-letter-routing-key": "dead_letter",
    "x-dead-letter-strategy": "dead_letter",
    "alternate-exchange": "alternate_exchange",
}
"""The key of the file that stands for an argument."""


def queue_arguments(topology: ExpandedTopology, queue: Queue) -> dict[str, Any]:
    """What a queue is declared with."""
    arguments: dict[str, Any] = thawed(queue.arguments)
    for field, argument in ARGUMENT_OF_FIELD.items():
        value = getattr(queue, field)
        if value is not None:
            arguments[argument] = value
    if isinstance(queue.dead_letter, DeadLetterTo):
        arguments |= _dead_letter_arguments(topology, queue.dead_letter)
    return arguments


def _dead_letter_arguments(topology: Topology, rule: DeadLetterTo) -> dict[str, Any]:
    arguments = {"x-dead-letter-exchange": topology.exchange_name(rule.to)}
    if rule.routing_key is not None:
        arguments["x-dead-letter-routing-key"] = rule.routing_key
    if rule.strategy is not None:
        arguments["x-dead-letter-strategy"] = rule.strategy
    return arguments


def exchange_arguments(topology: Topology, exchange: Exchange) -> dict[str, Any]:
    """What an exchange is declared with."""
    arguments: dict[str, Any] = thawed(exchange.arguments)
    if exchange.alternate_exchange is not None:
        arguments["alternate-exchange"] = topology.exchange_name(exchange.alternate_exchange)
    return arguments

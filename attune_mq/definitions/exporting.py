"""A topology as RabbitMQ's definitions JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune_mq.definitions.vhosts import DEFAULT_VHOST
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology


def export_definitions(topology: Topology, vhost: str = DEFAULT_VHOST) -> dict[str, Any]:
    """What ``rabbitmqctl import_definitions`` and the HTTP API's ``/api/definitions`` take.

    It holds every exchange, queue and binding that setup makes, additions of the library included.
    It does not hold ``vhost`` itself, which has to be there: importing a virtual host resets its
    description and default queue type (measured on RabbitMQ 3.10). RabbitMQ silently
    skips an object that exists with other properties; ``plan`` names those.

    :func:`left_out_of_export` names what such definitions cannot hold.
    """
    definitions: dict[str, Any] = {"exchanges": [], "queues": [], "bindings": []}
    for declaration in declarations(expand(topology)):
        match declaration:
            case ExchangeDeclaration():
                definitions["exchanges"].append(_exchange(declaration, vhost))
            case QueueDeclaration():
                definitions["queues"].append(_queue(declaration, vhost))
            case BindingDeclaration():
                definitions["bindings"].append(_binding(declaration, vhost))
    return definitions


def left_out_of_export(topology: Topology) -> Iterator[str]:
    """What is in the topology and not among definitions, in a sentence each."""
    for key, queue in topology.queues.items():
        if queue.belongs_to_a_connection:
            yield f"queue {key!r} and its bindings: its consumer makes it, on its own connection"
    for key, family in topology.families.items():
        parameters = ", ".join(family.parameters)
        yield f"family {key!r}: it exists for each {parameters}, once it is instantiated"


def _exchange(declared: ExchangeDeclaration, vhost: str) -> dict[str, Any]:
    return {
        "name": declared.name,
        "vhost": vhost,
        "type": declared.type,
        "durable": declared.durable,
        "auto_delete": declared.auto_delete,
        "internal": declared.internal,
        "arguments": dict(declared.arguments),
    }


def _queue(declared: QueueDeclaration, vhost: str) -> dict[str, Any]:
    return {
        "name": declared.name,
        "vhost": vhost,
        "durable": declared.durable,
        "auto_delete": declared.auto_delete,
        "arguments": dict(declared.arguments),
    }


def _binding(declared: BindingDeclaration, vhost: str) -> dict[str, Any]:
    return {
        "source": declared.source,
        "vhost": vhost,
        "destination": declared.destination,
        "destination_type": declared.destination_type,
        "routing_key": declared.routing_key,
        "arguments": dict(declared.arguments),
    }

"""A topology as RabbitMQ's definitions JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune_mq.definitions.entries import DEFAULT_VHOST
from attune_mq.topology.declaration import Declaration, declarations
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
        definitions[f"{declaration.kind}s"].append(_entry(declaration, vhost))
    return definitions


def left_out_of_export(topology: Topology) -> Iterator[str]:
    """What is in the topology and not among definitions, in a sentence each."""
    for key, queue in topology.queues.items():
        if queue.belongs_to_a_connection:
            yield f"queue {key!r} and its bindings: its consumer makes it, on its own connection"
    for key, family in topology.families.items():
        parameters = ", ".join(family.parameters)
        yield f"family {key!r}: it exists for each {parameters}, once it is instantiated"


def _entry(declared: Declaration, vhost: str) -> dict[str, Any]:
    fields = vars(declared) | {"arguments": dict(declared.arguments)}
    first, *others = (each for each in fields.items() if each[0] not in ("path", "exclusive"))
    return dict([first, ("vhost", vhost), *others])

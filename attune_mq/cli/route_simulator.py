"""The queries of ``attune-mq route``, and the simulation that answers them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attune_mq.errors import InvalidInput
from attune_mq.topology.dead_lettering import REASONS, Death, Reason
from attune_mq.topology.families import Instance, including, instance_with_queue
from attune_mq.topology.model import Topology
from attune_mq.topology.routing import Router, Routing


@dataclass(frozen=True)
class PublishQuery:
    """Where does a message go that is published to this exchange?"""

    exchange: str
    routing_key: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DeadLetterQuery:
    """Where does a message go that dies in this queue?"""

    queue: str
    routing_key: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    reason: Reason = "rejected"
    follow: bool = False


Query = PublishQuery | DeadLetterQuery
Result = Routing | Death

_FIELDS: Mapping[str, tuple[type, str]] = {
    "exchange": (str, "a text"),
    "dead": (str, "a text, the name of a queue"),
    "routing_key": (str, "a text"),
    "headers": (dict, "an object"),
    "reason": (str, "a text"),
    "follow": (bool, "true or false"),
}


class RouteSimulator:
    """Simulates routing by one topology, with the instances of families that the queries name."""

    def __init__(self, topology: Topology) -> None:
        self.router = Router(topology)
        self._queues = frozenset(self.router.queues)
        self._routers: dict[str, Router] = {}

    def simulate(self, query: Query) -> Result:
        """Raises :class:`InvalidInput` for a queue that neither the file nor a family has."""
        if isinstance(query, PublishQuery):
            return self.router.route(query.exchange, query.routing_key, query.headers)
        return self.router_for(query.queue).dead_letter(
            query.queue, query.routing_key, query.headers, reason=query.reason, follow=query.follow
        )

    def router_for(self, queue: str) -> Router:
        """A router that includes the instance of a family to which ``queue`` belongs, if any."""
        instance = self.instance(queue)
        if instance is None:
            return self.router
        if str(instance) not in self._routers:
            self._routers[str(instance)] = Router(including(self.router.topology, instance))
        return self._routers[str(instance)]

    def instance(self, queue: str) -> Instance | None:
        if queue in self._queues:
            return None
        return instance_with_queue(self.router.topology, queue)


def parse_query(line: bytes, *, follow: bool = False) -> Query:
    """A query of a batch: ``{"exchange", "routing_key", "headers"}`` or ``{"dead": queue,
    "routing_key", "headers", "reason", "follow"}``; all but the first are optional."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"expected a JSON object, got an error in it: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput("expected a JSON object, got another value")
    known = ("dead", "reason", "follow") if "dead" in value else ("exchange",)
    _check_fields(value, (*known, "routing_key", "headers"))
    if "dead" in value:
        value["queue"] = value.pop("dead")
        return DeadLetterQuery(**{"follow": follow, **value})
    return PublishQuery(**value)


def _check_fields(value: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name, given in value.items():
        if name not in known:
            raise InvalidInput(f"expected one of the keys {', '.join(known)}, got {name!r}")
        kind, expected = _FIELDS[name]
        if not isinstance(given, kind):
            raise InvalidInput(f"{name}: expected {expected}, got {json.dumps(given)[:60]}")
    if known[0] not in value:
        raise InvalidInput("expected the key 'exchange' or 'dead', got neither")
    if value.get("reason", "rejected") not in REASONS:
        expected = f"one of {', '.join(REASONS)}"
        raise InvalidInput(f"reason: expected {expected}, got {value['reason']!r}")

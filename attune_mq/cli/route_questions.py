"""What ``attune-mq route`` can be asked, and its answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attune_mq.errors import InvalidInput
from attune_mq.topology.dead_lettering import REASONS, Death, Reason
from attune_mq.topology.families import Instance, including, instance_with_queue
from attune_mq.topology.model import Topology
from attune_mq.topology.network import HopPath
from attune_mq.topology.routing import Router, Routing


@dataclass(frozen=True)
class Published:
    """Where does a message go that is published there?"""

    exchange: str
    routing_key: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dead:
    """Where does a message go that dies in that queue?"""

    queue: str
    routing_key: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    reason: Reason = "rejected"
    follow: bool = False


Question = Published | Dead
Answer = Routing | Death

_FIELDS: Mapping[str, tuple[type, str]] = {
    "exchange": (str, "a text"),
    "dead": (str, "a text, the name of a queue"),
    "routing_key": (str, "a text"),
    "headers": (dict, "an object"),
    "reason": (str, "a text"),
    "follow": (bool, "true or false"),
}


class Oracle:
    """Answers questions about one topology."""

    def __init__(self, topology: Topology) -> None:
        self.router = Router(topology)
        self._queues = frozenset(self.router.queues)
        self._instances: dict[str, Router] = {}

    def answer(self, question: Question) -> Answer:
        """Raises :class:`InvalidInput` for a queue that there cannot be."""
        if isinstance(question, Published):
            return self.router.route(question.exchange, question.routing_key, question.headers)
        return self.router_for(question.queue).dead_letter(
            question.queue,
            question.routing_key,
            question.headers,
            reason=question.reason,
            follow=question.follow,
        )

    def router_for(self, queue: str) -> Router:
        """With the instance of a family that ``queue`` belongs to, where it belongs to one."""
        instance = self.instance(queue)
        if instance is None:
            return self.router
        if str(instance) not in self._instances:
            self._instances[str(instance)] = Router(including(self.router.topology, instance))
        return self._instances[str(instance)]

    def instance(self, queue: str) -> Instance | None:
        if queue in self._queues:
            return None
        return instance_with_queue(self.router.topology, queue)


def parse_question(line: bytes, *, follow: bool = False) -> Question:
    """A question of a batch: ``{"exchange", "routing_key", "headers"}`` or ``{"dead": queue,
    "routing_key", "headers", "reason", "follow"}``; all but the first are optional."""
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"expected a JSON object, got an error in it: {error}") from None
    if not isinstance(asked, dict):
        raise InvalidInput("expected a JSON object, got another value")
    known = ("dead", "reason", "follow") if "dead" in asked else ("exchange",)
    _check_fields(asked, (*known, "routing_key", "headers"))
    if "dead" in asked:
        asked["queue"] = asked.pop("dead")
        return Dead(**{"follow": follow, **asked})
    return Published(**asked)


def _check_fields(asked: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name, value in asked.items():
        if name not in known:
            raise InvalidInput(f"expected one of the keys {', '.join(known)}, got {name!r}")
        kind, expected = _FIELDS[name]
        if not isinstance(value, kind):
            raise InvalidInput(f"{name}: expected {expected}, got {json.dumps(value)[:60]}")
    if known[0] not in asked:
        raise InvalidInput("expected the key 'exchange' or 'dead', got neither")
    if asked.get("reason", "rejected") not in REASONS:
        expected = f"one of {', '.join(REASONS)}"
        raise InvalidInput(f"reason: expected {expected}, got {asked['reason']!r}")


def arrives(answer: Answer) -> bool:
    """Whether the message is known to come to a queue."""
    return bool(answer.queues)


def as_json(answer: Answer) -> dict[str, Any]:
    """What is out of the ordinary is there only where there is such a thing."""
    value: dict[str, Any] = {
        "queues": answer.queues,
        "unroutable": _is_lost(answer),
        "paths": [path_as_json(path) for path in answer.paths],
    }
    if isinstance(answer, Death):
        value["dropped"] = answer.dropped
        if answer.losses:
            value["losses"] = [loss._asdict() for loss in answer.losses]
        if answer.cycle:
            value["circling"] = answer.cycle
    elif answer.refused is not None:
        value["refused"] = answer.refused
    if answer.unsimulated:
        value["unsimulated"] = answer.unsimulated
    return value


def _is_lost(answer: Answer) -> bool:
    return answer.dropped is not None if isinstance(answer, Death) else answer.unroutable


def path_as_json(path: HopPath) -> list[dict[str, str]]:
    """The objects that the message passes, bindings included."""
    first = path[0]
    kind = "queue" if first.via == "dead letter" else "exchange"
    steps = [{"kind": kind, "name": first.source}]
    for hop in path:
        if hop.via == "binding":
            name = f"{hop.source} -> {hop.destination} [{hop.routing_key}]"
            steps.append({"kind": "binding", "name": name})
        steps.append({"kind": hop.destination_type, "name": hop.destination})
    return steps

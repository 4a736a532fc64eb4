"""What every client is given, what it reports, and the message that all of them carry."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel

EXCHANGE, ROUTING_KEY = "bench", "enforcement"
"""Direct and durable, with one durable queue bound to it."""
BODY_BYTES = 450


class Task(NamedTuple):
    """``messages`` messages to take from ``queue``, or to publish to it by :data:`EXCHANGE`."""

    url: str
    queue: str
    messages: int
    prefetch: int


class Timing(NamedTuple):
    """Wall clock and processor time of the client's process, and what else it found."""

    messages: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds


class Stopwatch:
    """From the first message to the last one, whose arrival is no business of the clock."""

    def __init__(self) -> None:
        self._began = self._began_cpu = 0.0

    def start(self) -> None:
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def stop(self, messages: int) -> Timing:
        return Timing(
            messages, time.perf_counter() - self._began, time.process_time() - self._began_cpu
        )


class Headers(BaseModel):
    retry_count: int = 0
    source_service: str | None = None


class EnforcementPayload(BaseModel):
    enforcement_id: int
    rule_id: int | None = None
    rule_ref: str
    event_id: int | None = None
    trigger_ref: str
    payload: dict[str, Any]


class PlainEnvelope(BaseModel):
    """How a person would read the message with pydantic and no library of ours."""

    message_id: str
    correlation_id: str
    message_type: str
    version: str
    timestamp: str
    headers: Headers
    payload: EnforcementPayload


def body(number: int) -> bytes:
    """An envelope of :data:`BODY_BYTES`."""
    payload = {"enforcement_id": number, "rule_id": 7, "rule_ref": "core.on_alert", "event_id": 9}
    payload |= {"trigger_ref": "core.alert", "payload": {"host": "db1", "text": ""}}
    envelope = {
        "message_id": f"550e8400-e29b-41d4-a716-{number:012d}",
        "correlation_id": f"550e8400-e29b-41d4-a716-{number:012d}",
        "message_type": "EnforcementCreated",
        "version": "1.0",
        "timestamp": "2026-09-03T12:34:56.789123Z",
        "headers": {"retry_count": 0, "source_service": "benchmark"},
        "payload": payload,
    }
    padding = BODY_BYTES - len(json.dumps(envelope))
    payload["payload"] = {"host": "db1", "text": "x" * padding}
    return json.dumps(envelope).encode()


Client = Callable[[Task], Timing]

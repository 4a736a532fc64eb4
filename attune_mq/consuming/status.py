"""What a consumer is doing now, and what it has done."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Literal

from attune_mq.consuming.deadlines import Deadlines, RunningHandler
from attune_mq.consuming.pausing import Pause
from attune_mq.consuming.registration import LivenessSnapshot
from attune_mq.message.telemetry import Telemetry

logger = logging.getLogger(__name__)

State = Literal["starting", "connecting", "consuming", "paused", "stopping", "stopped"]
Counter = Literal["handled", "retried", "dead_lettered"]


@dataclass(frozen=True)
class ConsumerStatus:
    """``state`` is ``consuming`` only while the broker has the tag registered, as far as is known
    here, and ``paused`` while it is registered and holds its messages, since something that its
    handlers need is away. ``since_s`` is on the monotonic clock. ``detail`` says why it is not
    consuming.

    ``handled``, ``retried`` and ``dead_lettered`` count what became of messages: of the latter
    two, once their copies were confirmed. ``connections``: how often it began to consume.

    ``is_alive``: its thread and its workers live. ``liveness``: that its I/O loop runs and the
    broker answers, ``None`` while it has no connection. ``running``: what its handlers,
    ``concurrency`` at most, are at, the oldest first; ``overdue`` of them are over the deadline.
    ``has_deadline``:
    whether the topology gives one; otherwise it is
    :data:`~attune_mq.consuming.deadlines.DEFAULT_DEADLINE_MS`.
    """

    tag: str
    queue: str
    state: State
    since_s: float
    detail: str | None
    in_flight: int
    handled: int
    retried: int
    dead_lettered: int
    connections: int
    is_alive: bool
    concurrency: int
    running: tuple[RunningHandler, ...]
    deadline_ms: int
    has_deadline: bool
    liveness: LivenessSnapshot | None

    @property
    def overdue(self) -> int:
        return sum(1 for one in self.running if one.for_s * 1000 > self.deadline_ms)


class Progress:
    """Written by the threads of one consumer, read by anyone."""

    def __init__(
        self,
        tag: str,
        queue: str,
        telemetry: Telemetry | None = None,
        deadline_ms: int | None = None,
    ) -> None:
        self.deadlines = Deadlines(tag, deadline_ms)
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._tag = tag
        self._queue = queue
        self._state: State = "starting"
        self._since_s = time.monotonic()
        self._detail: str | None = None
        self._counts: dict[Counter, int] = {"handled": 0, "retried": 0, "dead_lettered": 0}
        self._connections = 0

    def connecting(self) -> None:
        if self._state != "connecting":
            self._enter("connecting", self._detail)

    def consuming(self, queue: str) -> None:
        self._queue = queue
        self._connections += 1
        self._enter("consuming", None)
        logger.info("Consumer started for queue '%s' with tag '%s'", queue, self._tag)
        if self._telemetry is not None:
            self._telemetry.connection_opened(self._tag)

    def failed(self, error: Exception) -> None:
        """Said once for each reason, not for each attempt."""
        reason = str(error) or type(error).__name__
        if reason != self._detail or self._state == "consuming":
            logger.warning("Consumer '%s' is not consuming: %s", self._tag, reason)
        if self._state == "consuming" and self._telemetry is not None:
            self._telemetry.connection_lost(self._tag, reason)
        self._enter("connecting", reason)

    def stopping(self) -> None:
        self._enter("stopping", None)

    def leave_to_parent(self, why: str) -> None:
        """In a fork: another thread may have held the lock, and no handler runs here."""
        self._lock = threading.Lock()
        self.deadlines.forget()
        self._enter("stopped", why)

    def stopped(self) -> None:
        self._enter("stopped", None)

    def count(self, counter: Counter) -> None:
        with self._lock:
            self._counts[counter] += 1

    def status(
        self,
        pause: Pause,
        *,
        in_flight: int,
        registered: bool,
        is_alive: bool,
        concurrency: int,
        liveness: LivenessSnapshot | None,
    ) -> ConsumerStatus:
        state = self._state
        since_s, detail, cause = self._since_s, self._detail, pause.cause
        if state == "consuming" and not registered:
            state = "connecting"
        elif state == "consuming" and cause is not None:
            state, since_s, detail = "paused", pause.since_s, str(cause)
        return ConsumerStatus(
            tag=self._tag,
            queue=self._queue,
            state=state,
            since_s=since_s,
            detail=detail,
            in_flight=in_flight,
            handled=self._counts["handled"],
            retried=self._counts["retried"],
            dead_lettered=self._counts["dead_lettered"],
            connections=self._connections,
            is_alive=is_alive,
            concurrency=concurrency,
            running=self.deadlines.running,
            deadline_ms=self.deadlines.deadline_ms,
            has_deadline=self.deadlines.is_stated,
            liveness=liveness,
        )

    def _enter(self, state: State, detail: str | None) -> None:
        with self._lock:
            if state != self._state:
                self._since_s = time.monotonic()
            self._state, self._detail = state, detail

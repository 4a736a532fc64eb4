"""What a consumer is doing now, which handlers run, and what it has done."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.consuming.pausing import Pause
from attune_mq.consuming.registration import LivenessSnapshot
from attune_mq.errors import MalformedMessage
from attune_mq.message.delivery import Delivery
from attune_mq.message.envelope import decode
from attune_mq.message.masking import in_a_line
from attune_mq.message.telemetry import Telemetry

logger = logging.getLogger(__name__)

DEFAULT_DEADLINE_MS = 15 * 60 * 1000
"""Where the topology gives a consumer no ``deadline``: half of RabbitMQ's consumer timeout, after
which the broker delivers the message to another consumer
(https://www.rabbitmq.com/docs/consumers)."""


@dataclass(frozen=True)
class RunningHandler:
    """A handler that has not returned, and its message: ``message_id`` of its AMQP properties,
    ``message_type`` of its envelope, both in a line, ``None`` where there is none; ``since`` when
    it was called. Never the payload."""

    message_id: str | None
    message_type: str | None
    since: datetime
    for_s: float

    def __str__(self) -> str:
        since = self.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        return (
            f"{self.message_type or 'unknown type'} {self.message_id or 'without id'} since {since}"
        )


class Deadlines:
    """Of all handlers of one consumer, over all its connections: a handler that hangs outlives the
    connection that its message came by, and keeps its thread. Safe from any thread.

    A handler past its deadline is logged once; Python cannot end a thread.
    ``deadline_ms``: of the topology; ``None``: :data:`DEFAULT_DEADLINE_MS`.
    """

    def __init__(self, tag: str, deadline_ms: int | None, runtime: Runtime = SYSTEM) -> None:
        self._runtime = runtime
        self._tag = tag
        self.is_stated = deadline_ms is not None
        self.deadline_ms = DEFAULT_DEADLINE_MS if deadline_ms is None else deadline_ms
        self._begun: dict[int, _Call] = {}  # by thread: each runs one at a time

    @property
    def running(self) -> tuple[RunningHandler, ...]:
        """Those that have not returned, the oldest first."""
        calls = sorted(self._begun.copy().values(), key=lambda call: call.begun_at_s)
        now_s, now = self._runtime.monotonic(), self._runtime.now()
        return tuple(call.as_running(now_s, now) for call in calls)

    def begun(self, delivery: Delivery) -> None:
        """From a worker thread: its handler is about to be called."""
        self._begun[threading.get_ident()] = _Call(delivery, self._runtime.monotonic())

    def finished(self, _delivery: Delivery) -> None:
        """From the same thread, also where no handler was called."""
        self._begun.pop(threading.get_ident(), None)

    def forget(self) -> None:
        """No handler runs: they were the parent's, of which this process is a fork."""
        self._begun = {}

    def look(self) -> None:
        """Logs the handlers past their deadline; from the connection's thread, now and then."""
        late_s = self._runtime.monotonic() - self.deadline_ms / 1000
        for call in self._begun.copy().values():
            if call.begun_at_s < late_s and not call.is_said:
                call.is_said = True
                logger.warning(
                    "Handler of consumer '%s' is past its deadline of %d ms with message %s (%s)",
                    self._tag,
                    self.deadline_ms,
                    call.message_id,
                    call.message_type,
                )


class _Call:
    """Of a handler. Its message is read when it is first asked for, and once."""

    def __init__(self, delivery: Delivery, now_s: float) -> None:
        self.begun_at_s = now_s
        self.is_said = False
        self._delivery = delivery

    @property
    def message_id(self) -> str | None:
        message_id = self._delivery.properties.message_id
        return None if message_id is None else in_a_line(message_id)

    @cached_property
    def message_type(self) -> str | None:
        try:
            return in_a_line(decode(self._delivery.body).message_type)
        except MalformedMessage:
            return None

    def as_running(self, now_s: float, now: datetime) -> RunningHandler:
        for_s = now_s - self.begun_at_s
        since = now - timedelta(seconds=for_s)
        return RunningHandler(self.message_id, self.message_type, since, for_s)


State = Literal["starting", "connecting", "consuming", "paused", "stopping", "stopped"]
Counter = Literal["handled", "retried", "dead_lettered"]


@dataclass(frozen=True)
class ConsumerStatus:
    """``state`` is ``consuming`` only while the broker has the tag registered, as far as is known
    here, and ``paused`` while it is registered and holds its messages, since a dependency
    of its handlers is unavailable. ``since_s`` is on the monotonic clock. ``detail`` says why it is
    not consuming.

    ``handled``, ``retried`` and ``dead_lettered`` count what became of messages: of the latter
    two, once their copies were confirmed. ``connections``: how often it began to consume.

    ``is_alive``: its thread and its workers live. ``liveness``: that its I/O loop runs and the
    broker answers, ``None`` while it has no connection. ``running``: what its handlers,
    ``concurrency`` at most, are at, the oldest first; ``overdue`` of them are over the deadline.
    ``has_deadline``:
    whether the topology gives one; otherwise it is
    :data:`~attune_mq.consuming.status.DEFAULT_DEADLINE_MS`.
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
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.deadlines = Deadlines(tag, deadline_ms, runtime)
        self._runtime = runtime
        self._telemetry = telemetry
        self._lock = self._runtime.lock()
        self._tag = tag
        self._queue = queue
        self._state: State = "starting"
        self._since_s = self._runtime.monotonic()
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
        self._lock = self._runtime.lock()
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
                self._since_s = self._runtime.monotonic()
            self._state, self._detail = state, detail

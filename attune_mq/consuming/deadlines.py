"""Which handlers run, on which messages, and which of them take longer than they may."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from attune_mq.errors import MalformedMessage
from attune_mq.message.delivery import Delivery
from attune_mq.message.envelope import decode
from attune_mq.message.masking import in_a_line

logger = logging.getLogger(__name__)

DEFAULT_DEADLINE_MS = 15 * 60 * 1000
"""Where the topology gives a consumer no ``deadline``: half of RabbitMQ's consumer timeout, after
which the broker gives the message to somebody else (https://www.rabbitmq.com/docs/consumers)."""


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

    What is over its deadline is logged once; Python cannot end a thread.
    ``deadline_ms``: of the topology; ``None``: :data:`DEFAULT_DEADLINE_MS`.
    """

    def __init__(self, tag: str, deadline_ms: int | None) -> None:
        self._tag = tag
        self.is_stated = deadline_ms is not None
        self.deadline_ms = DEFAULT_DEADLINE_MS if deadline_ms is None else deadline_ms
        self._begun: dict[int, _Call] = {}  # by thread: each runs one at a time

    @property
    def running(self) -> tuple[RunningHandler, ...]:
        """Those that have not returned, the oldest first."""
        calls = sorted(self._begun.copy().values(), key=lambda call: call.begun_at_s)
        return tuple(call.as_running() for call in calls)

    def begun(self, delivery: Delivery) -> None:
        """From a worker thread: its handler is about to be called."""
        self._begun[threading.get_ident()] = _Call(delivery)

    def finished(self, _delivery: Delivery) -> None:
        """From the same thread, also where no handler was called."""
        self._begun.pop(threading.get_ident(), None)

    def forget(self) -> None:
        """No handler runs: they were the parent's, of which this process is a fork."""
        self._begun = {}

    def look(self) -> None:
        """Says what is over its deadline; from the thread of the connection, now and then."""
        late_s = time.monotonic() - self.deadline_ms / 1000
        for call in self._begun.copy().values():
            if call.begun_at_s < late_s and not call.is_said:
                call.is_said = True
                logger.warning(
                    "Handler of consumer '%s' is over its deadline of %d ms with message %s (%s)",
                    self._tag,
                    self.deadline_ms,
                    call.message_id,
                    call.message_type,
                )


class _Call:
    """Of a handler. Its message is read when somebody asks, and once."""

    def __init__(self, delivery: Delivery) -> None:
        self.begun_at_s = time.monotonic()
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

    def as_running(self) -> RunningHandler:
        for_s = time.monotonic() - self.begun_at_s
        since = datetime.now(UTC) - timedelta(seconds=for_s)
        return RunningHandler(self.message_id, self.message_type, since, for_s)

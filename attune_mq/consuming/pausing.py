"""Pauses consumption while a dependency of the handlers is unavailable.

A handler that says so (:class:`~attune_mq.errors.DependencyUnavailable`, or an error registered by
``depends_on``) has not failed with its message. The message stays with the consumer, unacked and
uncounted, and so do those that come after it: the prefetch bounds how many, and the broker keeps
the rest. After a pause, longer each time, one message is tried. While that fails likewise, all
wait; once it does not, all go on.

Nothing is requeued meanwhile, since RabbitMQ 4.0 counts each return to a quorum queue, and the
broker would send it again at once. What is held for :data:`LONGEST_HOLD_S` leaves as a fresh copy
at the tail of its queue, long before the broker takes the consumer for broken.
"""

from __future__ import annotations

import logging

from attune_mq.amqp.backoff import Backoff
from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.message.delivery import MAX_HOLD_S
from attune_mq.message.settlement import Unavailable
from attune_mq.message.telemetry import Telemetry

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
LONGEST_HOLD_S = MAX_HOLD_S


class Pause:
    """Whether a consumer pauses, and for what. It outlives connections. Safe from any thread."""

    def __init__(
        self, tag: str, telemetry: Telemetry | None = None, runtime: Runtime = SYSTEM
    ) -> None:
        self._tag = tag
        self._telemetry = telemetry
        self._runtime = runtime
        self._lock = runtime.lock()
        self.cause: Unavailable | None = None
        """What is unavailable, and how that was noticed last, while it pauses."""
        self.since_s = 0.0
        """Since when it pauses, on the monotonic clock."""
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, runtime)

    def begin(self, cause: Unavailable) -> None:
        """Or go on with it, for the same or for another reason."""
        with self._lock:
            is_new = self.cause is None or self.cause.dependency != cause.dependency
            if self.cause is None:
                self.since_s = self._runtime.monotonic()
                self._backoff.reset()
            self.cause = cause
        if is_new:
            logger.warning(
                "Consumer '%s': consumption paused, dependency unavailable: %s", self._tag, cause
            )
            if self._telemetry is not None:
                self._telemetry.paused(self._tag, cause.dependency)

    def end(self) -> None:
        with self._lock:
            cause, self.cause = self.cause, None
            paused_s = self._runtime.monotonic() - self.since_s
        if cause is not None:
            logger.info(
                "Consumer '%s' goes on after a pause of %.1f s for %s",
                self._tag,
                paused_s,
                cause.dependency,
            )
            if self._telemetry is not None:
                self._telemetry.resumed(self._tag, cause.dependency, paused_s)

    def next_s(self) -> float:
        """How long until the next trial."""
        return self._backoff.next_s()

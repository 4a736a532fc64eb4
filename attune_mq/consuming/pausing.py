"""A pause, not a massacre: what a consumer does while something that its handlers need is away.

A handler that says so (:class:`~attune_mq.errors.DependencyUnavailable`, or an error registered by
``depends_on``) has not failed with its message. The message stays with the consumer, unsettled and
uncounted, and so do those that come after it: the prefetch bounds how many, and the broker keeps
the rest. After a pause, longer each time, one message is tried. While that fails likewise, all
wait; once it does not, all go on.

Nothing is given back meanwhile, since RabbitMQ 4.0 counts each return to a quorum queue, and the
broker would send it again at once. What is held for :data:`LONGEST_HOLD_S` leaves as a fresh copy
at the tail of its queue, long before the broker takes the consumer for broken.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from attune_mq.amqp.backoff import Backoff
from attune_mq.message.delivery import MAX_HOLD_S, Delivery
from attune_mq.message.settlement import Unavailable
from attune_mq.message.telemetry import Telemetry

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
LONGEST_HOLD_S = MAX_HOLD_S


class Pause:
    """Whether a consumer pauses, and for what. It outlives connections. Safe from any thread."""

    def __init__(self, tag: str, telemetry: Telemetry | None = None) -> None:
        self._tag = tag
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._cause: Unavailable | None = None
        self._since_s = 0.0
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)

    @property
    def is_on(self) -> bool:
        return self._cause is not None

    @property
    def cause(self) -> Unavailable | None:
        """What is away, and how that was noticed last."""
        return self._cause

    @property
    def since_s(self) -> float:
        """On the monotonic clock, while it :attr:`is_on`."""
        return self._since_s

    def begin(self, cause: Unavailable) -> None:
        """Or go on with it, for the same or for another reason."""
        with self._lock:
            is_new = self._cause is None or self._cause.dependency != cause.dependency
            if self._cause is None:
                self._since_s = time.monotonic()
                self._backoff.reset()
            self._cause = cause
        if is_new:
            logger.warning("Consumer '%s' pauses, nothing is lost: %s", self._tag, cause)
            if self._telemetry is not None:
                self._telemetry.paused(self._tag, cause.dependency)

    def end(self) -> None:
        with self._lock:
            cause, self._cause = self._cause, None
            paused_s = time.monotonic() - self._since_s
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


class WaitingRoom:
    """What one connection of a consumer holds while that pauses. On the connection's thread.

    ``later`` calls back after so many seconds. ``begin`` lets a worker handle a delivery, as a
    trial or as usual. ``renew`` lets a copy take its place.
    """

    def __init__(
        self,
        pause: Pause,
        *,
        later: Callable[[float, Callable[[], None]], object],
        begin: Callable[[Delivery, bool], None],
        renew: Callable[[Delivery], None],
    ) -> None:
        self._pause = pause
        self._later = later
        self._begin = begin
        self._renew = renew
        self._held: dict[int, Delivery] = {}
        self._failed: set[int] = set()
        self._is_scheduled = False

    def enter(self, delivery: Delivery, *, failed: bool = False) -> None:
        """``failed``: it is one of those that the missing thing is needed for, so one to try."""
        tag = delivery.delivery_tag
        left_s = delivery.kept_since_s + LONGEST_HOLD_S - time.monotonic()
        if left_s <= 0:
            self._renew(delivery)
            return
        self._held[tag] = delivery
        if failed:
            self._failed.add(tag)
        # A timer each time, so that nothing has to be remembered of what may be gone by then.
        self._later(left_s, lambda: self._overstays(tag))

    def leave(self) -> list[Delivery]:
        """All of them: the consumer stops, or goes on."""
        leaving = [self._held[tag] for tag in sorted(self._held)]
        self._held.clear()
        self._failed.clear()
        return leaving

    def look(self) -> None:
        """Plans the next trial, or lets all go on: to be called when something has happened."""
        if self._pause.is_on:
            if not self._is_scheduled:
                self._is_scheduled = True
                self._later(self._pause.next_s(), self._try_one)
        elif self._held:
            for delivery in self.leave():
                self._begin(delivery, False)

    def _try_one(self) -> None:
        self._is_scheduled = False
        if self._pause.is_on and self._held:
            # One that did not fail may not need what is away, and would say nothing about it.
            tag = min(self._failed or self._held)
            self._failed.discard(tag)
            self._begin(self._held.pop(tag), True)
        else:
            self._pause.end()  # there is nothing to try with: the next message is the trial
            self.look()

    def _overstays(self, tag: int) -> None:
        delivery = self._held.pop(tag, None)
        self._failed.discard(tag)
        if delivery is not None:  # else it is being tried, or is gone
            self._renew(delivery)

"""A thread that takes turns, pauses where there is nothing to do, and waits out trouble."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from attune_mq.errors import BrokerUnavailable
from attune_mq.transactional.batches import Relayed
from attune_mq.transactional.engine import describe, is_transient

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class Turn(Protocol):
    """Takes a batch. The last turn settles it; another may leave that to the turn after it."""

    def __call__(self, *, is_last: bool) -> Relayed: ...


class RelayThread:
    """``full``: of a batch of so many messages, or of which something was confirmed, there is
    likely to be another: that turn comes at once, and what failed waits by itself."""

    def __init__(self, turn: Turn, *, name: str, full: int, poll_interval_s: float) -> None:
        self._turn = turn
        self._full = full
        self._poll_interval_s = poll_interval_s
        self._watch = _Watch()
        self._changed = threading.Condition()
        self._woken = False
        self._stop_at: float | None = None
        self._turn_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def trouble(self) -> str | None:
        return self._watch.trouble

    @property
    def turn_s(self) -> float:
        """For how long the turn has lasted that it takes; 0 between two."""
        since_s = self._turn_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        return self._stop_at is not None

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def begin_to_stop(self, stop_at: float) -> None:
        """``stop_at``: until when it goes on while that goes well, on the monotonic clock."""
        with self._changed:
            self._stop_at = stop_at
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stops_within(pause_s):
            pause_s = self._take(is_last=False)
        while self._take(is_last=True) == 0 and time.monotonic() < (self._stop_at or 0):
            pass

    def _take(self, *, is_last: bool) -> float:
        """One turn, and how long to pause after it, in seconds."""
        self._turn_since_s = time.monotonic()
        try:
            relayed = self._turn(is_last=is_last)
        except Exception as error:
            return self._watch.failed(error)
        finally:
            self._turn_since_s = None
        self._watch.works()
        is_more = relayed.confirmed or relayed.failed >= self._full
        return 0.0 if is_more else self._poll_interval_s

    def _stops_within(self, pause_s: float) -> bool:
        """Sleep until the pause is over, or the thread is woken or stopped."""
        # A commit does not cut a pause short that is there because of trouble.
        wakeable = self._watch.trouble is None
        with self._changed:
            self._changed.wait_for(
                lambda: self._stop_at is not None or (wakeable and self._woken), pause_s
            )
            self._woken = False
            return self._stop_at is not None


class _Watch:
    """Notices when the relay's state changes, logs that once, and knows how long to pause."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._failures = 0

    def works(self) -> None:
        if self.trouble is not None:
            logger.info("Outbox relay goes on after: %s", self.trouble)
        self.trouble = None
        self._failures = 0

    def failed(self, error: Exception) -> float:
        if is_transient(error):
            return self._waits("the database is locked or away", describe(error))
        if isinstance(error, BrokerUnavailable):
            return self._waits("the broker is not available", describe(error))
        return self._waits(f"unexpected {type(error).__name__}", describe(error), error)

    def _waits(self, trouble: str, detail: str, defect: Exception | None = None) -> float:
        if trouble != self.trouble:
            level = logging.WARNING if defect is None else logging.ERROR
            logger.log(level, "Outbox relay waits, %s: %s", trouble, detail, exc_info=defect)
        self.trouble = trouble
        self._failures += 1
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 30))

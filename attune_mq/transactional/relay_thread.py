"""A thread that takes turns, pauses where there is nothing to do, and backs off after errors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from attune_mq.errors import BrokerUnavailable
from attune_mq.transactional.batches import Relayed
from attune_mq.transactional.engine import describe, is_transient

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class RelayThread:
    """Calls ``turn``, with whether it is the last one, which is to settle its batch.

    ``full``: after a batch of so many messages, or of which something was confirmed, the next turn
    follows at once, since there is likely to be more."""

    def __init__(
        self, turn: Callable[[bool], Relayed], *, name: str, full: int, poll_interval_s: float
    ) -> None:
        self.trouble: str | None = None
        self._turn = turn
        self._full = full
        self._poll_interval_s = poll_interval_s
        self._changed = threading.Condition()
        self._woken = False
        self._failures = 0
        self._stop_at: float | None = None
        self._turn_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.start = self._thread.start

    @property
    def turn_s(self) -> float:
        """For how long its current turn has lasted; 0 between two."""
        since_s = self._turn_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        return self._stop_at is not None

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def begin_to_stop(self, stop_at: float) -> None:
        """``stop_at``, on the monotonic clock: until when it continues while that succeeds."""
        with self._changed:
            self._stop_at = stop_at
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stops_within(pause_s):
            pause_s = self._take(False)
        while self._take(True) == 0 and time.monotonic() < (self._stop_at or 0):
            pass

    def _take(self, is_last: bool) -> float:
        """One turn, and how long to pause after it, in seconds."""
        self._turn_since_s = time.monotonic()
        try:
            relayed = self._turn(is_last)
        except Exception as error:
            return self._failed(error)
        finally:
            self._turn_since_s = None
        if self.trouble is not None:
            logger.info("Outbox relay recovered from: %s", self.trouble)
        self.trouble, self._failures = None, 0
        is_more = relayed.confirmed or relayed.failed >= self._full
        return 0.0 if is_more else self._poll_interval_s

    def _stops_within(self, pause_s: float) -> bool:
        """Sleeps until the pause is over, or the thread is woken or stopped."""
        # A commit does not end a pause after an error.
        wakeable = self.trouble is None
        with self._changed:
            self._changed.wait_for(
                lambda: self._stop_at is not None or (wakeable and self._woken), pause_s
            )
            self._woken = False
            return self._stop_at is not None

    def _failed(self, error: Exception) -> float:
        """Logs a change of the trouble once."""
        level, traceback = logging.WARNING, None
        if is_transient(error):
            trouble = "the database is locked or unreachable"
        elif isinstance(error, BrokerUnavailable):
            trouble = "the broker is not available"
        else:
            trouble = f"unexpected {type(error).__name__}"
            level, traceback = logging.ERROR, error
        if trouble != self.trouble:
            text = "Outbox relay waits, %s: %s"
            logger.log(level, text, trouble, describe(error), exc_info=traceback)
        self.trouble = trouble
        self._failures += 1
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 30))

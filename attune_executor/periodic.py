"""Work that is done at the start, and again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

RETRY_S = 60.0


class Periodic:
    """A thread that calls ``work`` when it starts, and ``interval_s`` after each time.

    Where it raises, that is logged once until it works again, and it is called again after
    ``interval_s``, or :data:`RETRY_S` where that is less.
    """

    def __init__(self, name: str, interval_s: float, work: Callable[[], None]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._work = work
        self._error: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why it does not do its work, or ``None``."""
        return self._error if self._thread.is_alive() else "its thread does not run"

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            pause_s = self._interval_s if self._works() else min(self._interval_s, RETRY_S)

    def _works(self) -> bool:
        try:
            self._work()
        except Exception as error:
            if self._error is None:
                logger.warning("Periodic work failed: %s", self._name, exc_info=True)
            self._error = type(error).__name__
            return False
        if self._error is not None:
            logger.info("Periodic work succeeds again: %s", self._name)
        self._error = None
        return True

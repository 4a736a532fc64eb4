"""Background tasks that run at intervals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

RETRY_S = 60.0


class Periodic:
    """A thread that calls ``work`` when it starts, and ``interval_s`` after each call, at most
    :data:`RETRY_S` after one that raised. The first of successive errors is logged."""

    def __init__(self, name: str, interval_s: float, work: Callable[[], None]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._work = work
        self._error: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def trouble(self) -> str | None:
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
            try:
                self._work()
            except Exception as error:
                if self._error is None:
                    logger.warning("Periodic work failed: %s", self._name, exc_info=True)
                self._error = type(error).__name__
                pause_s = min(self._interval_s, RETRY_S)
            else:
                if self._error is not None:
                    logger.info("Periodic work recovered: %s", self._name)
                self._error = None
                pause_s = self._interval_s

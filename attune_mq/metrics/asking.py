"""Asking at a scrape what others know, without letting the scrape wait for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Question(Generic[T]):
    """Asked in a thread of its own, once at a time.

    :meth:`begin` asks, unless the last question is still open: who hangs is not asked twice.
    :meth:`answer` waits until the deadline. Where the answer has not come by then, the last one
    stands in, unless it is older than ``good_for_s``; then there is none, and what is not known is
    left out of the scrape.
    """

    def __init__(self, ask: Callable[[], T], *, name: str, good_for_s: float = 0.0) -> None:
        self._ask = ask
        self._name = name
        self._good_for_s = good_for_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._answer: T | None = None
        self._answered_at = float("-inf")
        self._failed = False

    def begin(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def answer(self, deadline: float) -> T | None:
        """``deadline``: on the monotonic clock. Call :meth:`begin` before."""
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        in_time = thread is not None and not thread.is_alive()
        recent = time.monotonic() - self._answered_at <= self._good_for_s
        return self._answer if in_time or recent else None

    def _run(self) -> None:
        try:
            answer = self._ask()
        except Exception as error:
            self._answer, self._answered_at = None, float("-inf")
            self._say(error)
        else:
            self._answer, self._answered_at = answer, time.monotonic()
            self._failed = False

    def _say(self, error: Exception) -> None:
        """Once until it answers again."""
        level = logging.DEBUG if self._failed else logging.WARNING
        logger.log(level, "Metrics: %s cannot be told: %s", self._name, error)
        self._failed = True

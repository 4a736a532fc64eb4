"""Threads that run handlers, away from the thread of the connection."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Runs ``work`` for each item, ``concurrency`` at once, in the order in which they came.

    Unlike an executor of the standard library it can give back what has not begun, and its threads
    do not hold up the end of the process: a handler that never returns is left behind.
    """

    def __init__(self, work: Callable[[T], None], *, concurrency: int, name: str) -> None:
        self._work = work
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}#{number}", daemon=True)
            for number in range(1, concurrency + 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def take_back(self) -> list[T]:
        """All that has not begun; it never will."""
        with self._changed:
            items, self._items = list(self._items), deque()
            return items

    @property
    def running(self) -> int:
        """How many items are being worked on."""
        return self._running

    def close(self) -> None:
        """Threads end when they have finished what they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Waits for the threads after :meth:`close`; whether they have ended."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._changed.wait()
                if not self._items:
                    return
                item = self._items.popleft()
                self._running += 1
            try:
                self._work(item)
            except Exception:  # a defect must not cost the thread
                logger.exception("A worker failed")
            finally:
                with self._changed:
                    self._running -= 1

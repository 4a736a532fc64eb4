"""Noting on the way of a message, counting later.

A note is one append. To look up labels, take a lock and add where each message passes took 13.5 µs
of processor time for a message; to do it for many at once takes 7, noting included
(``benchmarks/telemetry.py``: ``delivered``, ``handled`` and ``settled``).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MANY = 1_000
"""So many are counted at once by whoever notes the last of them; it takes a millisecond or two."""


class Notes(Generic[T]):
    """``count`` is given what was noted, in order: when it is much, and by :meth:`settle`, which a
    scrape calls first. Safe from any thread."""

    def __init__(self, count: Callable[[list[T]], None]) -> None:
        self._count = count
        self._notes: deque[T] = deque()
        self._counting = threading.Lock()

    def add(self, note: T) -> None:
        self._notes.append(note)
        if len(self._notes) >= MANY:
            self.settle()

    def settle(self) -> None:
        with self._counting:  # others may add meanwhile, but nobody takes what is counted on here
            self._count([self._notes.popleft() for _ in range(len(self._notes))])

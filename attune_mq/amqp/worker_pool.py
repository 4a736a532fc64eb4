"""Threads that run handlers, away from the thread of the connection."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from attune_mq.amqp.runtime import SYSTEM, Runtime

logger = logging.getLogger(__name__)

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Runs ``work`` for each item, ``concurrency`` at once, begun in the order in which they came.

    Unlike an executor of the standard library it can release what has not begun, and its threads
    do not hold up the end of the process: a handler that never returns is left behind.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        *,
        concurrency: int,
        name: str,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.concurrency = concurrency
        self._name = name
        self._work = work
        self.waiting: deque[T] = deque()
        """What has not begun, in order."""
        self.running = 0
        """How many items are being worked on."""
        self._runtime = runtime
        self._lock = runtime.lock()
        self._to_do = runtime.condition(self._lock)
        self._idle = runtime.condition(self._lock)
        self._while_idle: Callable[[], bool] | None = None
        self._closed = False
        self._threads = [
            runtime.thread(f"{name}#{number}", self._run) for number in range(1, concurrency + 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, items: Sequence[T]) -> None:
        with self._to_do:
            self.waiting.extend(items)
            self._to_do.notify(len(items))

    @contextmanager
    def lending(self, while_idle: Callable[[], bool]) -> Iterator[None]:
        """Within the block a thread that has nothing to do calls ``while_idle``, again and again
        until that says ``False``."""
        with self._to_do:
            self._while_idle = while_idle
            self._to_do.notify()
        try:
            yield
        finally:
            self._take_idleness_back(while_idle)

    def take_back(self) -> list[T]:
        """All that has not begun; it never will."""
        with self._to_do:
            items, self.waiting = list(self.waiting), deque()
            return items

    @property
    def is_alive(self) -> bool:
        """Whether all of its threads live."""
        return all(thread.is_alive() for thread in self._threads)

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether, after so many seconds at most, nothing is being worked on."""
        with self._idle:
            return self._idle.wait_for(lambda: self.running == 0, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Begins nothing more, and ends the threads as they finish what they are at. Whether all
        of them had ended after so many seconds."""
        with self._to_do:
            self._closed = True
            self._to_do.notify_all()
        give_up_at = self._runtime.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - self._runtime.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        for item in self._coming():
            try:
                self._work(item)
            except Exception:  # a defect must not cost the thread
                logger.exception("Unhandled exception in worker thread %s", self._name)

    def _coming(self) -> Iterator[T]:
        """What is to be done next, again and again; asking for more says that it is done."""
        while True:
            with self._lock:
                while not (self.waiting or self._closed or self._while_idle):
                    self._to_do.wait()
                if self._closed:
                    return
                while_idle = None if self.waiting else self._while_idle
                if while_idle is None:
                    item = self.waiting.popleft()
                    self.running += 1
            if while_idle is None:
                try:
                    yield item
                finally:
                    self._done()
            elif not while_idle():
                self._take_idleness_back(while_idle)

    def _done(self) -> None:
        with self._lock:
            self.running -= 1
            if not (self.running or self.waiting):
                self._idle.notify_all()

    def _take_idleness_back(self, while_idle: Callable[[], bool]) -> None:
        with self._to_do:
            if self._while_idle is while_idle:
                self._while_idle = None

"""Who turns the loop of a consumer's connection.

Where several workers handle messages, the consumer's own thread does, and wakes them. A single
worker turns it itself while it has nothing else to do: what comes is then handled by the thread
that read it, with no other one to wake, which costs more than the message does. The consumer's own
thread looks after it: while a handler runs it turns the loop now and then, for heartbeats, timers
and health. One thread at a time, by a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika

from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.amqp.pulse import ASK_EVERY_S
from attune_mq.amqp.worker_pool import WorkerPool

TURN_S = ASK_EVERY_S
"""The loop turns at least this often, and when it is to stop; what has come and what has finished
is seen to at once."""


class Turning:
    """``turn`` is one turn: it calls what it is given, to wait for events, and raises when there is
    nothing to go on with. ``settle`` settles what has finished. ``is_stopping``: no more turns."""

    def __init__(
        self,
        connection: pika.BlockingConnection,
        pool: WorkerPool[Any],
        *,
        turn: Callable[[Callable[[], None]], None],
        settle: Callable[[], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._direct = DirectConnection.of(connection)
        self._pool = pool
        self._turn = turn
        self._settle = settle
        self._is_stopping = is_stopping
        self._lock = threading.Lock()
        self._failure: Exception | None = None
        self._news = threading.Event()  # a failure, or a request to stop
        self.is_workers = pool.concurrency == 1
        """Whether the worker turns the loop, while there is one."""

    def run(self) -> None:
        """Until it is to stop. Raises what a turn raises, whoever took it."""
        if self.is_workers:
            with self._pool.lending(self._turn_while_idle):
                while not self._is_stopping():
                    self._look_after_worker()
        while not self._is_stopping():
            self._turn(lambda: self._connection.process_data_events(time_limit=TURN_S))

    def look_up(self) -> None:
        """From any thread: there is something new, such as that it is to stop."""
        self._news.set()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block nobody else does anything with the connection."""
        with self._lock:
            yield

    def settle_here(self) -> bool:
        """On the worker's thread: settles what has finished, if nobody else is at it. Whether it
        did; what goes wrong is raised by :meth:`run`."""
        return self._do(self._settle, blocking=False)

    def _turn_while_idle(self) -> bool:
        return self._do(self._settle_and_turn, blocking=True) and not self._is_stopping()

    def _settle_and_turn(self) -> None:
        self._settle()
        if not self._is_stopping():
            self._turn(lambda: DirectConnection.turn(self._connection))

    def _do(self, work: Callable[[], None], *, blocking: bool) -> bool:
        if not self._lock.acquire(blocking=blocking):
            return False
        try:
            work()
        except Exception as error:  # it is for the thread that looks after this one
            self._failure = error
            self._news.set()
            return False
        finally:
            self._lock.release()
        return True

    def _look_after_worker(self) -> None:
        self._news.wait(TURN_S)
        if self._failure is not None:
            raise self._failure
        if self._is_stopping():
            return
        if not self._lock.acquire(blocking=False):  # it turns the loop: let it look up
            self._direct.call_soon(lambda: None)
            return
        try:  # it is with a handler
            self._turn(lambda: self._connection.process_data_events(time_limit=0))
        finally:
            self._lock.release()

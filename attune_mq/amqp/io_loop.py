"""Who turns the loop of a publisher's connection.

A caller that waits for a confirm turns it itself, if nobody else does: what comes is then seen by
the thread that waits for it, with no other one to wake, which costs more than the message does.
Where several callers wait, the connection's own thread turns it for all of them, once the first of
them has what it waited for. While nobody waits that thread turns it now and then, for heartbeats
and timers, and to see whether the connection is lost. One thread at a time, by a lock.

A caller can be interrupted at any line (Ctrl-C, an alarm, a time limit), also between taking that
lock and the block that gives it back. So it is an ``RLock``, which knows its owner: whoever was
interrupted gives back what it holds (:func:`give_back`), after it has ended the connection.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from attune_mq.amqp.connecting import abandon
from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.errors import AttuneError, BrokerUnavailable

TURN_S = 0.5
"""The loop turns at least this often, and when something is wanted of it."""


class SharedLoop:
    """``is_busy``: something is expected of the connection, and somebody has to wait for it."""

    def __init__(self, connection: DirectConnection, *, is_busy: Callable[[], bool]) -> None:
        self.connection = connection
        self._is_busy = is_busy
        self._turning = threading.RLock()
        # It is busy and nobody turns, or it is over. An Event has a lock that an interrupted thread
        # may leave taken; putting into this queue is safe even then.
        self._news: SimpleQueue[None] = SimpleQueue()
        self._end: AttuneError | None = None
        self._defect: Exception | None = None
        connection.ioloop.activate_poller()

    def run(self) -> AttuneError:
        """On the connection's own thread, until it ends, and why it did. Raises what its own turn
        raises; what a caller's turn raises is the caller's."""
        while self._end is None:
            if self._is_busy() and self._take_turn():
                continue
            if not self._has_news():
                self.connection.call_soon(lambda: None)  # whoever turns it looks up
                self._take_turn()
        if self._defect is not None:
            raise self._defect
        return self._end

    def turn_while(self, is_wanted: Callable[[], bool], until_s: float) -> None:
        """By a caller: turns the loop while ``is_wanted``, not for long beyond ``until_s`` on the
        monotonic clock; does nothing where another thread turns it."""
        if not self._turning.acquire(blocking=False):
            return
        last_turn_s = until_s - TURN_S
        try:
            while is_wanted() and self._end is None and time.monotonic() < last_turn_s:
                self._turn()
        finally:
            self._turning.release()
            if self._end is not None or self._is_busy():
                self._news.put(None)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Has it called by whoever turns the loop. From any thread."""
        self.connection.call_soon(callback)
        self._news.put(None)

    def end(self, why: AttuneError) -> None:
        """By whoever turns it: there is nothing to wait for any more."""
        self._end = why

    def abort(self, why: AttuneError) -> None:
        """By a caller that was interrupted, perhaps while it turned the loop: ends the connection,
        and gives back what this thread holds of it."""
        self.connection.is_over = True
        self._end = why
        give_back(self._turning)
        give_back(self.connection.exclusive)
        self.call_soon(lambda: None)  # whoever turns it looks up

    def close(self) -> None:
        """After :meth:`run`; what was still to be called is forgotten."""
        self._end = self._end or BrokerUnavailable("the connection was given up")
        with self._turning:
            if not self.connection.is_closed:
                abandon(self.connection, str(self._end))
                self.connection.ioloop.process_timeouts()  # what that left to be done
            self.connection.ioloop.close()

    def _take_turn(self) -> bool:
        """Whether nobody else was at it."""
        if not self._turning.acquire(blocking=False):
            return False
        try:
            self._turn()
        except Exception as error:  # it is for :meth:`run`
            self._defect = error
        finally:
            self._turning.release()
        return True

    def _has_news(self) -> bool:
        """Waits for it, not for long."""
        try:
            self._news.get(timeout=TURN_S)
            while not self._news.empty():
                self._news.get_nowait()
        except Empty:
            return False
        return True

    def _turn(self) -> None:
        """Waits until something happens, and sees to it. What is interrupted in the midst of it may
        leave half a frame behind, so the connection ends then. Raises whatever came up, also where
        pika kept it to itself: it may be the caller's, such as of a time limit."""
        if self._end is not None:
            return
        ioloop = self.connection.ioloop
        try:
            ioloop.poll()
            ioloop.process_timeouts()
            if self.connection.interruption is not None:
                raise self.connection.interruption
        except BaseException as error:
            self.connection.is_over = True
            self._end = BrokerUnavailable(f"the connection was given up: {type(error).__name__}")
            raise


def give_back(lock: threading.RLock) -> None:
    """As often as this thread holds it; not what another thread holds."""
    with contextlib.suppress(RuntimeError):  # this thread holds it no more
        while True:
            lock.release()

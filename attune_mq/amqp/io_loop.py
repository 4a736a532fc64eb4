"""The I/O loop of a connection: leader and followers.

One thread at a time, the leader, waits for the socket, reads it, and has the connection's user look
at what came. A thread that waits for something on the connection (a publisher's caller for a
confirm, a worker for a delivery) becomes the leader if nobody else is: what comes is then seen by
the thread that waits for it, with no other one to wake, which costs more than the message does.
Otherwise, and while nobody waits, the connection's own thread leads, for heartbeats and to see
whether it is lost.

Any thread may send. Two locks: the leader holds ``_leading``, also while it waits; ``lock`` is held
while the state of the protocol changes and while something is sent, and never while waiting.

A thread can be interrupted at any line (Ctrl-C, an alarm, a time limit), also between taking a lock
and the block that releases it. So both are ``RLock``, which know their owner: the thread
that is interrupted releases what it holds (:func:`release_all`), after it has ended the connection.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import Empty
from typing import Protocol

from pika import exceptions as pika_errors

from attune_mq.amqp.protocol import ConnectionProtocol
from attune_mq.amqp.runtime import Runtime, Stream
from attune_mq.errors import AttuneError, BrokerUnavailable

TURN_S = 0.5
"""The longest wait: the user of the connection is asked this often what is due."""


class ConnectionUser(Protocol):
    """Who uses a connection. Its methods are called by the leader with the lock held."""

    @property
    def due_s(self) -> float:
        """When :meth:`tick` has something to do, if it is before the longest wait is over."""

    @property
    def is_busy(self) -> bool:
        """Whether something is expected, so that some thread has to lead all the time. Asked
        without the lock, and often."""

    def tick(self, now_s: float) -> None:
        """Before each wait. What it raises ends the connection."""

    def receive(self, now_s: float) -> None:
        """After something came: its channels have the events."""


class IoLoop:
    """Drives one connection: its protocol over its stream."""

    def __init__(
        self,
        protocol: ConnectionProtocol,
        stream: Stream,
        runtime: Runtime,
        user: ConnectionUser,
        lock: threading.RLock,
    ) -> None:
        self.lock = lock
        self.user = user
        self.end: BaseException | None = None
        """Why it is over. Nothing is sent or believed any more."""
        self._protocol = protocol
        self._link = protocol.link
        self._stream = stream
        self._runtime = runtime
        self._leading = runtime.rlock()
        # It is busy and nobody leads, or it is over. An Event has a lock that an interrupted thread
        # may leave taken; putting into this queue is safe even then.
        self._news = runtime.queue()
        self._defect: BaseException | None = None
        self._rest = b""  # what the stream did not take at once
        self._sent_bytes = 0

    def run(self, is_leaving: Callable[[], bool]) -> None:
        """On the connection's own thread, until the connection is over, or ``is_leaving``. Raises
        what its own turn as a leader raises; what a follower's turn raises is the follower's."""
        while self.end is None and not is_leaving():
            if self.user.is_busy and self._lead(wait=True):
                continue
            if not self._has_news():
                self._stream.wake()  # the leader looks what is due
                self._lead(wait=False)
        if self._defect is not None:
            raise self._defect

    def drive_until(self, is_done: Callable[[], bool], until_s: float, *, join: bool) -> bool:
        """Leads until ``is_done``, the connection is over, or it is ``until_s`` on the monotonic
        clock; what has come already is seen even if that has passed. Whether it led: where another
        thread leads already it waits for its turn, so long at most, or without ``join`` not at
        all."""
        wait_s = min(until_s - self._runtime.monotonic(), threading.TIMEOUT_MAX)
        if not self._leading.acquire(timeout=max(0.0, wait_s) if join else 0):
            return False
        try:
            left_s = max(0.0, until_s - self._runtime.monotonic())
            while not is_done() and self.end is None:
                self._turn(left_s)
                left_s = until_s - self._runtime.monotonic()
                if left_s <= 0:
                    break
        finally:
            self._leading.release()
            if self.end is not None or self.user.is_busy:
                self._news.put(None)
        return True

    def send(self, frames: bytes) -> None:
        """Whole frames, to the stream at once if it takes them, else when it does. From any thread.
        Sends nothing where the connection is over, which its user learns, of all that was given.

        Where an exception leaves this, it is not known how much was sent: the connection is over.
        """
        with self.lock:
            try:
                self._flush(frames)
            except BaseException as error:
                self.give_up(error)
                raise

    def wake(self) -> None:
        """Has the leader ask what is due. From any thread."""
        self._stream.wake()
        self._news.put(None)

    def give_up(self, error: BaseException) -> None:
        """Nothing more is sent or believed: a thread was interrupted while it sent or read, or
        the user has found the connection unusable."""
        why = f"the connection was given up: {type(error).__name__}"
        ours = error if isinstance(error, AttuneError) else BrokerUnavailable(why)
        self.end = self.end or ours

    def fail(self, error: BaseException) -> None:
        """It is over, and :meth:`run` raises ``error``."""
        self._defect = self._defect or error
        self.give_up(error)
        self.wake()

    def abort(self, why: BaseException) -> None:
        """By a thread that was interrupted, perhaps while it led: ends the connection, and releases
        what this thread holds of it."""
        self.end = self.end or why
        release_all(self._leading)
        release_all(self.lock)
        self.wake()

    @property
    def traffic_bytes(self) -> int:
        """What has come from the peer, and what its side of the wire has taken of what was sent."""
        with self.lock:
            waiting = len(self._rest) + self._stream.unacknowledged_bytes()
            return self._link.bytes_received + self._sent_bytes - waiting

    @property
    def has_sent_all(self) -> bool:
        """Whether the operating system has all that was to be sent."""
        return not self._rest

    def close_stream(self) -> None:
        """Ends the connection without a closing handshake. From any thread."""
        self.end = self.end or BrokerUnavailable("the connection was closed")
        self._stream.wake()
        with self._leading, self.lock:
            self._protocol.lost(pika_errors.StreamLostError("the stream was closed"))
            self._stream.close()

    def leave_to_parent(self) -> None:
        """In a fork: closes its copies of the descriptors, which sends nothing, so that the broker
        sees the end of the parent's connection when the parent ends."""
        self.end = BrokerUnavailable("the connection is the parent's, of which this is a fork")
        self._stream.close()

    def _lead(self, *, wait: bool) -> bool:
        """One turn, unless another thread leads; whether it was taken."""
        if not self._leading.acquire(blocking=False):
            return False
        try:
            self._turn(TURN_S if wait else 0.0)
        except Exception as error:  # it is for :meth:`run`
            self._defect = error
        finally:
            self._leading.release()
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

    def _turn(self, at_most_s: float) -> None:
        """Waits until something happens, and sees to it. An interruption meanwhile may leave half a
        frame behind, so it ends the connection."""
        if self.end is not None:
            return
        try:
            with self.lock:
                now_s = self._link.now_s = self._runtime.monotonic()
                if now_s >= self._link.due_s:
                    self._link.tick()
                self.user.tick(now_s)
                self._flush()
                wait_s = self._wait_s(now_s, at_most_s)
                has_rest = bool(self._rest)
            ready = self._stream.wait(wait_s, writable=has_rest)
            if ready.readable:
                self._receive()
            if ready.writable:
                with self.lock:
                    self._flush()
        except BaseException as error:
            self.give_up(error)
            raise

    def _wait_s(self, now_s: float, at_most_s: float) -> float:
        due_s = min(self._link.due_s, self.user.due_s)
        return 0.0 if self.end is not None else max(0.0, min(at_most_s, TURN_S, due_s - now_s))

    def _receive(self) -> None:
        if self._stream.is_shareable:
            data = self._read()
        else:
            with self.lock:
                data = self._read()
        with self.lock:
            if data is None or self.end is not None:
                return
            try:
                self._protocol.receive(data)
            except pika_errors.AMQPError as error:  # the peer breaks the protocol
                self._lost(error)
            self.user.receive(self._runtime.monotonic())
            self._flush()

    def _read(self) -> bytes | None:
        try:
            data = self._stream.receive()
        except OSError as error:
            data, why = b"", _reason(error)
        else:
            why = "the peer closed it"
        if data == b"":
            with self.lock:
                self._lost(pika_errors.StreamLostError(why))
        return data

    def _flush(self, frames: bytes = b"") -> None:
        if self._protocol.out:
            frames = self._protocol.data_to_send() + frames
        if frames or self._rest:
            self._send(frames)
        if self._link.failure is not None:
            self._protocol.end()
            self.end = self.end or self._link.failure

    def _send(self, frames: bytes) -> None:
        """Where it is not known how much of it the stream took, the connection is over: it must not
        be sent again, and nothing may follow it."""
        if self.end is not None:
            return
        had_rest = bool(self._rest)
        self._rest += frames
        try:
            sent = self._stream.send(self._rest)
        except OSError as error:
            self._lost(pika_errors.StreamLostError(_reason(error)))
            self.wake()
            return
        self._sent_bytes += sent
        self._rest = self._rest[sent:]
        if self._rest and not had_rest:
            self._stream.wake()  # the leader waits for something to read alone

    def _lost(self, error: Exception) -> None:
        self._protocol.lost(error)
        self.end = self.end or self._link.failure or error


def _reason(error: OSError) -> str:
    """Of an error of the socket. Raises what is none, such as of a time limit that passes now."""
    if error.errno is None and not isinstance(error, ConnectionError):
        raise error
    return error.strerror or str(error) or type(error).__name__


def release_all(lock: threading.RLock) -> None:
    """As often as this thread holds it; not what another thread holds."""
    with contextlib.suppress(RuntimeError):  # this thread holds it no more
        while True:
            lock.release()

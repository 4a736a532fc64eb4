"""The port to the machine: clock, chance, threads, locks and sockets, and nothing else.

Whatever drives a connection, waits, or draws lots does so by a :class:`Runtime`, so that the same
code runs in a simulated world where one seed decides what happens, and when.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import NamedTuple, Protocol, TypeVar

import pika.connection

T = TypeVar("T")

RECEIVE_BYTES = 32_768
"""At once."""


class Ready(NamedTuple):
    """What a stream is ready for, or failed at, which reading or writing then tells."""

    readable: bool
    writable: bool


class Stream(Protocol):
    """Bytes to and from a peer. Nothing of it waits."""

    is_shareable: bool
    """Whether one thread may read while another one writes; TLS is one state for both."""

    def receive(self) -> bytes | None:
        """``b""`` at the end; ``None`` where there is nothing yet. Raises ``OSError``."""

    def send(self, data: bytes) -> int:
        """How many bytes were taken. Raises ``OSError``; one without ``errno`` is not the socket's:
        a time limit of the caller that passes in this moment."""

    def unacknowledged_bytes(self) -> int:
        """Taken, and not acknowledged by the peer's TCP; 0 where the system does not tell."""

    def wait(self, timeout_s: float, *, writable: bool) -> Ready:
        """Until there is something to read, room to write where ``writable``, or :meth:`wake`."""

    def wake(self) -> None:
        """Ends :meth:`wait`, now or the next one. From any thread."""

    def close(self) -> None:
        """Sends nothing. Again: does nothing."""


class Runtime(Protocol):
    def monotonic(self) -> float: ...
    def now(self) -> datetime:
        """By the wall clock, which may jump; in UTC."""

    def uniform(self, low: float, high: float) -> float: ...
    def shuffled(self, items: Sequence[T]) -> list[T]: ...
    def lock(self) -> threading.Lock: ...
    def rlock(self) -> threading.RLock: ...
    def condition(self, lock: threading.Lock | None = None) -> threading.Condition: ...
    def event(self) -> threading.Event: ...
    def queue(self) -> SimpleQueue[None]:
        """Unlike an event it can be put to by a thread that is interrupted at any line."""

    def thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        """A daemon, not started yet."""

    def connect(self, parameters: pika.connection.Parameters) -> Stream:
        """Raises ``OSError``, of which those of TLS are kinds, after the socket timeout too."""


class System:
    """The real machine."""

    monotonic = staticmethod(time.monotonic)
    uniform = staticmethod(random.uniform)
    lock = staticmethod(threading.Lock)
    rlock = staticmethod(threading.RLock)
    event = staticmethod(threading.Event)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return random.sample(items, len(items))

    def condition(self, lock: threading.Lock | None = None) -> threading.Condition:
        return threading.Condition(lock)

    def queue(self) -> SimpleQueue[None]:
        return SimpleQueue()

    def thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=target, name=name, daemon=True)

    def connect(self, parameters: pika.connection.Parameters) -> Stream:
        address = parameters.host, parameters.port
        connection = socket.create_connection(address, parameters.socket_timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if parameters.ssl_options is not None:
                options = parameters.ssl_options
                name = options.server_hostname
                connection = options.context.wrap_socket(connection, server_hostname=name)
            return SocketStream(connection)
        except BaseException:
            connection.close()
            raise


SYSTEM: Runtime = System()


class SocketStream:
    """A socket of the operating system."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._tls = connection if isinstance(connection, ssl.SSLSocket) else None
        self.is_shareable = self._tls is None
        connection.setblocking(False)
        self._waked, self._waker = socket.socketpair()
        self._waked.setblocking(False)
        self._waker.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._waked, select.POLLIN)
        self._poll.register(connection, select.POLLIN)
        self._descriptor = connection.fileno()
        self._watches_writing = False

    def receive(self) -> bytes | None:
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def unacknowledged_bytes(self) -> int:
        return _unacknowledged_bytes(self._socket)

    def wait(self, timeout_s: float, *, writable: bool) -> Ready:
        if self._tls is not None and self._tls.pending():
            return Ready(readable=True, writable=writable)
        if writable is not self._watches_writing:
            events = select.POLLIN | select.POLLOUT if writable else select.POLLIN
            self._poll.modify(self._descriptor, events)
            self._watches_writing = writable
        found = dict(self._poll.poll(timeout_s * 1000))
        of_socket = found.pop(self._descriptor, 0)
        if found:
            with contextlib.suppress(BlockingIOError):
                self._waked.recv(4096)
        return Ready(bool(of_socket & ~select.POLLOUT), bool(of_socket & select.POLLOUT))

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # closed, or so many wakes that none more is needed
            self._waker.send(b"\0")

    def close(self) -> None:
        for each in (self._socket, self._waked, self._waker):
            with contextlib.suppress(OSError):
                each.close()


if sys.platform == "linux":
    import fcntl
    import struct
    import termios

    _INT = struct.Struct("i")

    def _unacknowledged_bytes(connection: socket.socket) -> int:
        """Source: tcp(7), ``SIOCOUTQ``."""
        try:
            answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(_INT.size))
        except (OSError, ValueError):  # it is closed, or no socket of TCP
            return 0
        return int(_INT.unpack(answer)[0])

else:

    def _unacknowledged_bytes(_connection: socket.socket) -> int:
        return 0

"""A TCP proxy of the tests' own: between a client and its broker it cuts, stalls and cuts in
mid-frame, which no broker does on request."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["to broker", "to client"]
CHUNK_BYTES = 65_536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: the peer sees a reset, as when a cable is cut and a router says so."""


class Proxy:
    """Forwards to the broker of ``url``; :attr:`url` is the same URL by way of the proxy.

    ``slow``: a link that takes so many bytes a second in that direction, and on which little is on
    its way at once."""

    def __init__(self, url: str, *, slow: tuple[Direction, int] | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._slow = slow
        if slow is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        port = self._listener.getsockname()[1]
        user, _, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}"))
        self._changed = threading.Condition()
        self._lines: list[_Line] = []
        self._accepting = True
        self._refusing = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.accepted = 0
        """How many connections clients have opened so far."""
        self._stall_next: Direction | None = None
        self._cut_next_after: tuple[Direction, int] | None = None

    def cut(self) -> None:
        """Resets all connections that there are; new ones are forwarded."""
        for line in self._take_lines():
            line.cut()

    def refuse(self) -> None:
        """Resets all connections that there are, and closes new ones, until :meth:`forward`."""
        self._refusing = True
        self.cut()

    def forward(self) -> None:
        self._refusing = False

    def stall(self, direction: Direction) -> None:
        """What there are of connections forward nothing in that direction any more; new ones do.
        Until they are cut."""
        with self._changed:
            for line in self._lines:
                line.stalled.add(direction)

    def stall_next(self, direction: Direction) -> None:
        """Likewise the next connection that a client opens, from its first byte on."""
        self._stall_next = direction

    def cut_after(self, byte_count: int, direction: Direction) -> None:
        """Resets each connection there is when so many more bytes have gone in that direction."""
        with self._changed:
            for line in self._lines:
                line.left[direction] = byte_count

    def cut_next_after(self, byte_count: int, direction: Direction) -> None:
        """Likewise the next connection that a client opens: cut in its handshake."""
        self._cut_next_after = (direction, byte_count)

    def close(self) -> None:
        self._accepting = False
        socket.create_connection(self._listener.getsockname()).close()  # wakes accept()
        self._threads[0].join(10)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if not self._accepting:
                client.close()
                return
            if self._refusing:
                client.close()
                continue
            try:
                broker = socket.create_connection(self._target)
            except OSError:  # the broker is down: the client sees a closed connection
                client.close()
                continue
            line = _Line(client, broker, self._changed, self._slow)
            with self._changed:
                if self._cut_next_after is not None:
                    direction, byte_count = self._cut_next_after
                    line.left[direction] = byte_count
                    self._cut_next_after = None
                if self._stall_next is not None:
                    line.stalled.add(self._stall_next)
                    self._stall_next = None
                self._lines.append(line)
                self.accepted += 1
            self._threads += line.start()

    def _take_lines(self) -> list[_Line]:
        with self._changed:
            lines, self._lines = self._lines, []
            return lines


class _Line:
    """One connection: two threads, each forwarding in one direction."""

    def __init__(
        self,
        client: socket.socket,
        broker: socket.socket,
        changed: threading.Condition,
        slow: tuple[Direction, int] | None,
    ) -> None:
        self._slow = None if slow is None else slow[0]
        self._bytes_per_s = 0 if slow is None else slow[1]
        self._sockets = (client, broker)
        self._changed = changed
        self._open = True
        self.stalled: set[Direction] = set()
        self.left: dict[Direction, int] = {}

    def start(self) -> list[threading.Thread]:
        client, broker = self._sockets
        threads = [
            threading.Thread(target=self._forward, args=(client, broker, "to broker"), daemon=True),
            threading.Thread(target=self._forward, args=(broker, client, "to client"), daemon=True),
        ]
        for thread in threads:
            thread.start()
        return threads

    def cut(self) -> None:
        with self._changed:
            was_open, self._open = self._open, False
            self._changed.notify_all()
        if was_open:
            for one in self._sockets:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RD)  # wakes the thread in recv()
                one.close()

    def _forward(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                with self._changed:
                    self._changed.wait_for(lambda: direction not in self.stalled or not self._open)
                    if direction == self._slow:
                        wait_s = len(data) / self._bytes_per_s
                        self._changed.wait_for(lambda: not self._open, wait_s)
                    if not self._open:
                        return
                left = self.left.get(direction)
                if left is not None and len(data) >= left:
                    sink.sendall(data[:left])
                    break
                if left is not None:
                    self.left[direction] = left - len(data)
                sink.sendall(data)
        self.cut()

"""pika's connection, with a shorter way for what comes with every message.

pika makes an object of each frame, looks for callbacks in a table, and for a blocking connection
queues an event; for three frames a message that is most of what a consumer costs. Here the frames
of deliveries are read straight from what came, and acknowledgements and messages are written as
bytes. Opening, login, TLS, heartbeats, channels, closing, everything else: pika's.

It builds on what pika keeps to itself, ``_on_data_available``, ``_process_frame``,
``_output_marshaled_frames`` and its transport; the tests of this module say what of it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import pika
from pika import exceptions as pika_errors
from pika.frame import decode_frame

from attune_mq.messaging.frames import FRAME, FRAME_END, OVERHEAD_BYTES

RECEIVE_BYTES = 32_768
"""At once; pika takes 4,096, which is six small messages."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Reader(Protocol[T_co]):
    """Reads what one kind of frames, or of their sequences, says."""

    channel: int

    def take(self, data: bytes, at: int, kind: int, end: int) -> bool:
        """Whether the frame of ``data`` that begins ``at``, and ends before ``end``, was its."""

    def complete(self) -> T_co | None:
        """What was complete with the last frame that it took, once."""


class DirectConnection(pika.SelectConnection):
    """All of it is for the connection's thread, but for :meth:`call_soon`."""

    _reader: Reader[Any] | None = None
    _sink: Callable[[list[Any]], None]

    @classmethod
    def of(cls, connection: pika.BlockingConnection) -> DirectConnection:
        """The one in a blocking connection that was opened with this class."""
        inner = cast(Any, connection)._impl
        assert isinstance(inner, cls)
        return inner

    @staticmethod
    def turn(connection: pika.BlockingConnection) -> None:
        """Waits for something to happen, a few seconds at most, and sees to it: what
        ``process_data_events`` does, without its preparations. Raises as that does."""
        inner = cast(Any, connection)
        ioloop = inner._impl.ioloop
        ioloop.poll()
        ioloop.process_timeouts()
        if inner._ready_events or inner._channels_pending_dispatch or not connection.is_open:
            connection.process_data_events(time_limit=0)

    def read_with(self, reader: Reader[T], sink: Callable[[list[T]], None]) -> None:
        """From now on what ``reader`` takes goes to ``sink``, as much at once as came at once, in
        order, and no longer to pika's callbacks. One for a connection."""
        self._reader, self._sink = reader, sink
        transport = cast(Any, self)._transport
        if transport is not None:
            transport._MAX_RECV_BYTES = RECEIVE_BYTES

    def send(self, frames: bytes) -> None:
        """Whole frames, to the operating system at once if it takes them, else when it does.
        Raises ``ConnectionWrongStateError`` when the connection is not open."""
        if not self.is_open:
            raise pika_errors.ConnectionWrongStateError("the connection is not open")
        inner = cast(Any, self)
        rest = frames[self._send_at_once(inner, frames) :]
        if rest:
            inner._output_marshaled_frames([rest])
            if inner._transport is not None:
                inner._transport._on_socket_writable()  # as pika does when its loop turns next

    @staticmethod
    def _send_at_once(inner: Any, frames: bytes) -> int:
        """How many bytes the operating system took, where nothing waits before them. TLS, and
        whatever goes wrong, is left to pika, which otherwise watches the socket for each send."""
        socket = inner._transport._sock
        if isinstance(socket, ssl.SSLSocket) or inner._get_write_buffer_size():
            return 0
        try:
            sent = int(socket.send(frames))
        except OSError:
            return 0
        inner.bytes_sent += sent
        return sent

    @property
    def has_sent_all(self) -> bool:
        """Whether the operating system has all that was to be sent."""
        inner = cast(Any, self)
        return inner._transport is None or not inner._get_write_buffer_size()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Calls it on the connection's thread, while that waits for events. From any thread; on a
        connection that is closed it is forgotten."""
        self.ioloop.add_callback_threadsafe(callback)

    @property
    def frame_bytes(self) -> int:
        """The largest frame that was agreed on."""
        return int(cast(Any, self).params.frame_max)

    def _on_data_available(self, data_in: bytes) -> None:
        inner = cast(Any, self)
        if self._reader is None:
            inner_super: Any = super()
            inner_super._on_data_available(data_in)
            return
        inner.bytes_received += len(data_in)  # by which pika knows that the broker lives
        data = inner._frame_buffer + data_in
        inner._frame_buffer = data[self._read(self._reader, data) :]

    def _read(self, reader: Reader[Any], data: bytes) -> int:
        """Reads all whole frames, and returns where the rest begins."""
        found: list[Any] = []
        at, size = 0, len(data)
        while size - at >= OVERHEAD_BYTES:
            kind, channel, length = FRAME.unpack_from(data, at)
            end = at + length + OVERHEAD_BYTES
            if end > size:
                break
            if data[end - 1] != FRAME_END:
                raise pika_errors.InvalidFrameError("Invalid FRAME_END marker")
            if channel == reader.channel and reader.take(data, at, kind, end):
                if (one := reader.complete()) is not None:
                    found.append(one)
            else:
                if found:
                    self._sink(found)
                    found = []
                self._process(data[at:end])
            at = end
        if found:
            self._sink(found)
        return at

    def _process(self, encoded: bytes) -> None:
        _, frame = decode_frame(encoded)
        if frame is not None:
            cast(Any, self)._process_frame(frame)

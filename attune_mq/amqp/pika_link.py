"""pika's connection, with a shorter way for what comes with every message.

pika makes an object of each frame, looks for callbacks in a table, and for a blocking connection
queues an event; for three frames a message that is most of what a consumer costs. Here the frames
of deliveries are read straight from what came, and acknowledgements and messages are written as
bytes. Opening, login, TLS, heartbeats, channels, closing, everything else: pika's.

Any thread may send. What pika itself does with the frames that come, and with those that it sends,
excludes that: a message must not follow the answer to the closing of its channel, nor come between
two halves of a frame.

It builds on what pika keeps to itself, ``_on_data_available``, ``_proto_connection_lost``,
``_terminate_stream``, ``_process_frame``, ``_output_marshaled_frames`` and its transport; the tests
of this module say what of it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import pika
from pika import exceptions as pika_errors
from pika.frame import decode_frame

from attune_mq.amqp.frames import FRAME, FRAME_END, OVERHEAD_BYTES
from attune_mq.amqp.unacknowledged import unacknowledged_bytes
from attune_mq.forking import after_fork

RECEIVE_BYTES = 32_768
"""At once; pika takes 4,096, which is six small messages."""

T = TypeVar("T")


class Reader(Protocol[T]):
    """Reads what one kind of frames, or of their sequences, says. ``found``: what is complete, in
    order, until somebody takes it."""

    channel: int
    found: list[T]

    def take(self, data: bytes, at: int, kind: int, end: int) -> bool:
        """Whether the frame of ``data`` that begins ``at``, and ends before ``end``, was its."""


class DirectConnection(pika.SelectConnection):
    """All of it is for the thread that turns the loop, but for :meth:`call_soon` and :meth:`send`.

    ``exclusive`` is held while pika's part is at work, other than waiting, and while something is
    sent. Whoever decides by the state of a channel whether to send holds it for both.
    """

    _reader: Reader[Any] | None = None
    _sink: Callable[[list[Any]], None]
    is_over = False
    """Nothing more is sent over it, nor believed of what comes: it ended, or is to be ended."""
    interruption: BaseException | None = None
    """What was raised while frames were read, which pika keeps to itself. Not by the protocol."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.exclusive = threading.RLock()
        self._outlet: socket.socket | None = None
        self._rest = b""  # what the operating system did not take at once
        super().__init__(*args, **kwargs)
        after_fork(self._leave_to_parent)

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
        order, and no longer to pika's callbacks. One for a connection at a time."""
        self._reader, self._sink = reader, sink
        transport = cast(Any, self)._transport
        if transport is not None:
            transport._MAX_RECV_BYTES = RECEIVE_BYTES
            if self._outlet is None and not isinstance(transport._sock, ssl.SSLSocket):
                # Of its own, so that no other thread ever writes to a number that pika has closed
                # and somebody else has opened.
                self._outlet = transport._sock.dup()

    def send(self, frames: bytes) -> None:
        """Whole frames, to the operating system at once if it takes them, else when it does. From
        any thread. Raises ``ConnectionWrongStateError`` when the connection is not open."""
        with self.exclusive:
            if not self.is_open or self.is_over:
                raise pika_errors.ConnectionWrongStateError("the connection is not open")
            sent = 0 if self._rest else self._send_at_once(frames)
            if sent < len(frames):
                if not self._rest:
                    self.call_soon(self._send_rest)
                self._rest += frames[sent:]

    def _send_at_once(self, frames: bytes) -> int:
        """How many bytes the operating system took, where nothing waits before them. TLS is left to
        pika, which otherwise watches the socket for each send. Where it is not known how many it
        took, the connection is over: they must not be sent again, and nothing may follow them."""
        inner = cast(Any, self)
        if self._outlet is None or inner._get_write_buffer_size():
            return 0
        try:
            sent = self._outlet.send(frames)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.is_over = True
            if error.errno is None:  # not of the socket: a time limit that passes just now
                raise
            why = pika_errors.StreamLostError(f"the connection was lost: {error}")
            self.call_soon(lambda: self._terminate_stream(why) if self.is_open else None)
            return len(frames)
        inner.bytes_sent += sent
        return sent

    def _send_rest(self) -> None:
        transport = cast(Any, self)._transport
        if transport is not None:
            self._output_marshaled_frames(())
            if transport.get_write_buffer_size():
                transport._on_socket_writable()  # as pika does when its loop turns next

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        inner_super: Any = super()
        with self.exclusive:
            rest, self._rest = self._rest, b""
            inner_super._output_marshaled_frames(
                [rest, *marshaled_frames] if rest else marshaled_frames
            )

    @property
    def traffic_bytes(self) -> int:
        """What has come from the peer, and what its side of the wire has taken of what was sent."""
        inner = cast(Any, self)
        with self.exclusive:
            transport = inner._transport
            if transport is None:
                return int(inner.bytes_received)
            waiting = transport.get_write_buffer_size() + unacknowledged_bytes(transport._sock)
            return int(inner.bytes_received + inner.bytes_sent - waiting)

    def _leave_to_parent(self) -> None:
        """In a fork: the descriptors are closed, which sends nothing, so that the broker sees the
        end of the parent's connection when the parent ends."""
        transport = cast(Any, self)._transport
        for one in (self._outlet, transport and transport._sock):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.close()
        self._outlet, self.is_over = None, True

    @property
    def has_sent_all(self) -> bool:
        """Whether the operating system has all that was to be sent."""
        transport = cast(Any, self)._transport  # which another thread may let go at any moment
        return transport is None or not (self._rest or transport.get_write_buffer_size())

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Calls it on the connection's thread, while that waits for events. From any thread; on a
        connection that is closed it is forgotten."""
        self.ioloop.add_callback_threadsafe(callback)

    @property
    def frame_bytes(self) -> int:
        """The largest frame that was agreed on."""
        return int(cast(Any, self).params.frame_max)

    def _on_data_available(self, data_in: bytes) -> None:
        try:
            if self._reader is None:
                inner_super: Any = super()
                inner_super._on_data_available(data_in)
                return
            inner = cast(Any, self)
            inner.bytes_received += len(data_in)  # by which pika knows that the broker lives
            data = inner._frame_buffer + data_in
            inner._frame_buffer = data[self._read(self._reader, data) :]
        except pika_errors.AMQPError:  # of the protocol: pika ends the connection
            raise
        except BaseException as error:
            self.is_over = True
            self.interruption = error
            raise

    def _read(self, reader: Reader[Any], data: bytes) -> int:
        """Reads all whole frames, and returns where the rest begins."""
        at, size = 0, len(data)
        while size - at >= OVERHEAD_BYTES and not self.is_over:
            kind, channel, length = FRAME.unpack_from(data, at)
            end = at + length + OVERHEAD_BYTES
            if end > size:
                break
            if data[end - 1] != FRAME_END:
                self._hand_over(reader)
                raise pika_errors.InvalidFrameError("Invalid FRAME_END marker")
            if channel != reader.channel or not reader.take(data, at, kind, end):
                self._hand_over(reader)
                self._process(data[at:end])
            at = end
        self._hand_over(reader)
        return at

    def _hand_over(self, reader: Reader[Any]) -> None:
        found, reader.found = reader.found, []
        if found:
            self._sink(found)

    def _process(self, encoded: bytes) -> None:
        _, frame = decode_frame(encoded)
        if frame is not None:
            with self.exclusive:
                cast(Any, self)._process_frame(frame)

    def _terminate_stream(self, error: Exception | None) -> None:
        """Nothing that comes after it counts: the broker closed the connection, or we gave up."""
        self.is_over = True
        inner_super: Any = super()
        inner_super._terminate_stream(error)

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        """From when pika forgets its transport to when it marks the connection as closed."""
        inner_super: Any = super()
        if error is not None and _is_from_outside(error):
            self.interruption = self.interruption or error
        with self.exclusive:
            if self._outlet is not None:
                self._outlet.close()
                self._outlet = None
            inner_super._proto_connection_lost(error)


def _is_from_outside(error: BaseException) -> bool:
    """What ended a connection is neither of its socket, nor of the protocol, nor pika's."""
    if isinstance(error, OSError):
        return error.errno is None and not isinstance(error, ConnectionError)
    return not isinstance(error, pika_errors.AMQPError | AssertionError)


def never_called(*_: object) -> None:
    """pika wants a callback for what a reader takes."""
    raise AssertionError("a message or a confirm came by way of pika's callback")

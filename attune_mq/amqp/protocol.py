"""A connection and its channels as values: bytes in, bytes and events out; no lock, thread, socket
or clock.

Channel 0 is the :class:`~attune_mq.amqp.pika_link.Link`'s. Any other channel is opening, open,
closing or closed, and keeps what came for its opener. The answers to synchronous methods
come in the order in which the methods were sent, so :attr:`ChannelState.replies` is a queue of
answers; all else that comes is an event, in order.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pika import exceptions as pika_errors, spec
from pika.amqp_object import Method

from attune_mq.amqp.frames import (
    ACK,
    BODY_SIZE,
    CONFIRM,
    DELIVER,
    FRAME,
    FRAME_END,
    GET_OK,
    HEADER,
    METHOD,
    NACK,
    OVERHEAD_BYTES,
    RETURN,
    TAG,
    Confirm,
    decoded_method,
    method_frame,
    text,
)

if TYPE_CHECKING:
    from attune_mq.amqp.pika_link import Link


class RawMessage(NamedTuple):
    """A message from a queue, by ``basic.deliver`` or ``basic.get``: ``properties`` as they are
    encoded, flags included."""

    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes


class Returned(NamedTuple):
    """``basic.return``: no queue takes a mandatory message."""

    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str
    properties: bytes


class Cancelled(NamedTuple):
    """``basic.cancel`` by the broker."""

    consumer_tag: str


class Closed(NamedTuple):
    """``channel.close`` by the broker: reply code and text."""

    code: int
    text: str


Event = RawMessage | Returned | Confirm | Cancelled | Closed
Reply = Method | RawMessage


class Phase(Enum):
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class ChannelState:
    """One channel of one connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.phase = Phase.OPENING
        self.closed: Closed | None = None
        """Why the broker closed it."""
        self.replies: deque[Reply] = deque()
        self.consumer_tags: set[str] = set()
        """Those that the broker has registered and not cancelled."""
        self._events: list[Event] = []
        self._content: _Content | None = None
        self._encoded_names = b""
        self._names = ("", "")

    @property
    def is_open(self) -> bool:
        return self.phase is Phase.OPEN

    def open(self) -> bytes:
        return method_frame(self.number, spec.Channel.Open())

    def close(self) -> bytes:
        """Whatever comes before the broker's agreement is dropped."""
        self.phase = Phase.CLOSING
        return method_frame(self.number, spec.Channel.Close(200, "Normal shutdown", 0, 0))

    def lost(self) -> None:
        """The connection is gone."""
        self.phase = Phase.CLOSED
        self.consumer_tags.clear()

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def receive(self, data: bytes, at: int, kind: int, end: int) -> bytes:
        """One frame of ``data``, from ``at`` to before ``end``; returns what it obliges to send."""
        if kind == METHOD:
            start = at + FRAME.size
            return self._receive_method(data[start : start + 4], data, start + 4, end)
        if self._content is not None and self._content.receive(data, at, kind, end):
            content, self._content = self._content, None
            if self.is_open:
                self._complete(content)
        return b""

    def _receive_method(self, method: bytes, data: bytes, at: int, end: int) -> bytes:
        if method == DELIVER:
            self._content = _Content(method, data[at + 1 + data[at] : end - 1])
        elif method in (GET_OK, RETURN):
            self._content = _Content(method, data[at : end - 1])
        elif method in (ACK, NACK):
            if end - at <= CONFIRM.size:
                raise pika_errors.InvalidFrameError("a confirm without a delivery tag")
            tag, bits = CONFIRM.unpack_from(data, at)
            self._events.append(Confirm(tag, bool(bits & 1), method == ACK))
        else:
            return self._receive_rare(decoded_method(data[at - 4 - FRAME.size : end]))
        return b""

    def _receive_rare(self, method: Method) -> bytes:
        match method:
            case spec.Channel.Close():
                return self._closed_by_broker(method)
            case spec.Channel.CloseOk():
                self.lost()
            case spec.Basic.Cancel():
                self.consumer_tags.discard(str(method.consumer_tag))
                self._events.append(Cancelled(str(method.consumer_tag)))
            case spec.Channel.Flow():
                return method_frame(self.number, spec.Channel.FlowOk(method.active))
            case _ if self.phase is not Phase.CLOSING:
                self._replied(method)
        return b""

    def _replied(self, method: Method) -> None:
        match method:
            case spec.Channel.OpenOk():
                self.phase = Phase.OPEN
            case spec.Basic.ConsumeOk():
                self.consumer_tags.add(str(method.consumer_tag))
            case spec.Basic.CancelOk():
                self.consumer_tags.discard(str(method.consumer_tag))
        self.replies.append(method)

    def _closed_by_broker(self, method: spec.Channel.Close) -> bytes:
        if self.phase is Phase.CLOSING:  # both at once: its agreement to ours is still to come
            return method_frame(self.number, spec.Channel.CloseOk())
        self.closed = Closed(int(method.reply_code or 0), str(method.reply_text or ""))
        self.lost()
        self._events.append(self.closed)
        return method_frame(self.number, spec.Channel.CloseOk())

    def _complete(self, content: _Content) -> None:
        start, properties, body = content.start, content.properties, b"".join(content.body)
        if content.method == RETURN:
            method = spec.Basic.Return().decode(start)
            names = str(method.exchange), str(method.routing_key)
            code, why = int(method.reply_code or 0), str(method.reply_text)
            self._events.append(Returned(code, why, *names, properties))
            return
        tag, redelivered = TAG.unpack_from(start)
        message = RawMessage(
            tag, redelivered, *self._read_names(start[TAG.size :]), properties, body
        )
        if content.method == DELIVER:
            self._events.append(message)
        else:
            self.replies.append(message)

    def _read_names(self, encoded: bytes) -> tuple[str, str]:
        """Exchange and routing key; most often those of the last message."""
        if encoded != self._encoded_names:
            key_at = encoded[0] + 1
            key_end = key_at + 1 + encoded[key_at]  # in get-ok the message count follows
            self._names = (text(encoded[1:key_at]), text(encoded[key_at + 1 : key_end]))
            self._encoded_names = encoded
        return self._names


class _Content:
    """A method that carries a message, until the last frame of that has come."""

    __slots__ = ("body", "left", "method", "properties", "start")

    def __init__(self, method: bytes, start: bytes) -> None:
        self.method = method
        self.start = start
        self.properties = b""
        self.body: list[bytes] = []
        self.left = 0

    def receive(self, data: bytes, at: int, kind: int, end: int) -> bool:
        """Whether it is complete."""
        start = at + FRAME.size
        if kind == HEADER:
            self.left = BODY_SIZE.unpack_from(data, start)[2]
            self.properties = data[start + BODY_SIZE.size : end - 1]
        else:
            self.body.append(data[start : end - 1])
            self.left -= end - at - OVERHEAD_BYTES
        return not self.left


_PROTOCOL_HEADER = b"AMQP"


class NoFreeChannel(Exception):
    """The broker allows no further one (``channel_max``)."""


class ConnectionProtocol:
    def __init__(self, link: Link) -> None:
        self.link = link
        self.out = link.out
        """What is to be sent after each call, in order: :meth:`data_to_send` takes it."""
        self.channels: dict[int, ChannelState] = {}
        self._rest = b""  # the beginning of a frame
        self._last_number = 0

    def receive(self, data: bytes) -> None:
        """Raises an error of pika's where the peer breaks the protocol."""
        self.link.bytes_received += len(data)
        if self._rest:
            data = self._rest + data
        elif data.startswith(_PROTOCOL_HEADER):  # it speaks another version
            self.link.receive(data)
            return
        try:
            self._rest = data[self._receive_frames(data) :]
        except (struct.error, IndexError) as error:
            raise pika_errors.InvalidFrameError(f"a frame that cannot be read: {error}") from error

    def data_to_send(self) -> bytes:
        data = b"".join(self.out)
        self.out.clear()
        return data

    def open_channel(self) -> ChannelState:
        """Raises :class:`NoFreeChannel`."""
        channel = ChannelState(self._free_number())
        self.channels[channel.number] = channel
        self.out.append(channel.open())
        return channel

    def close_channel(self, channel: ChannelState) -> None:
        if channel.phase in (Phase.OPEN, Phase.OPENING) and self.link.is_open:
            self.out.append(channel.close())

    def lost(self, error: Exception) -> None:
        """The stream is gone."""
        self.link.lost(error)
        self.end()

    def end(self) -> None:
        """The link is over: so are its channels."""
        for channel in self.channels.values():
            channel.lost()

    def _receive_frames(self, data: bytes) -> int:
        """Reads all whole frames, and returns where the rest begins."""
        at, size, channels = 0, len(data), self.channels
        while size - at >= OVERHEAD_BYTES and self.link.failure is None:
            kind, number, length = FRAME.unpack_from(data, at)
            end = at + length + OVERHEAD_BYTES
            if end > size:
                break
            if data[end - 1] != FRAME_END:
                raise pika_errors.InvalidFrameError("Invalid FRAME_END marker")
            if number == 0:
                self.link.receive(data[at:end])
            elif (channel := channels.get(number)) is not None:
                obliged = channel.receive(data, at, kind, end)
                if obliged:
                    self.out.append(obliged)
                if channel.phase is Phase.CLOSED:
                    del channels[number]
            at = end
        return at

    def _free_number(self) -> int:
        if len(self.channels) >= self.link.channel_max:
            raise NoFreeChannel
        number = self._last_number
        while True:
            number = number % self.link.channel_max + 1
            if number not in self.channels:
                self._last_number = number
                return number

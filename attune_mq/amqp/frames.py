"""The few frames of AMQP 0-9-1 that come with every message, read from bytes and written to them.

All others are pika's. Source: https://www.rabbitmq.com/amqp-0-9-1-protocol.html, section 4.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
FRAME_END: Final = 0xCE
FRAME: Final = struct.Struct(">BHL")
"""Type, channel, size of the payload, which begins after it; the frame's end follows that."""
OVERHEAD_BYTES: Final = FRAME.size + 1

_BASIC: Final = 60
_DELIVER: Final = struct.pack(">HH", _BASIC, 60)
_TAG: Final = struct.Struct(">Q?")
"""Delivery tag, redelivered."""
_BODY_SIZE: Final = struct.Struct(">HHQ")
HEADER_OVERHEAD_BYTES: Final = OVERHEAD_BYTES + _BODY_SIZE.size
"""Of the frame that carries the properties of a message."""
_PUBLISH: Final = struct.pack(">HHH", _BASIC, 40, 0)
_ACK: Final = struct.Struct(">BHLHHQ?B")
_NACK: Final = struct.Struct(">BHLHHQBB")
_REQUEUE: Final = 0b10
_CONFIRMED: Final = struct.pack(">HH", _BASIC, 80)
_REFUSED: Final = struct.pack(">HH", _BASIC, 120)
_CONFIRM: Final = struct.Struct(">QB")
_CONFIRM_BYTES: Final = OVERHEAD_BYTES + len(_CONFIRMED) + _CONFIRM.size


class DeliveryReader(Generic[T]):
    """Puts the deliveries of one consumer together from their frames, on one channel.

    ``make`` is given delivery tag, redelivered, exchange, routing key, the properties as they came,
    flags included, and the body.
    """

    def __init__(
        self,
        channel: int,
        consumer_tag: str,
        make: Callable[[int, bool, str, str, bytes, bytes], T],
    ) -> None:
        self.channel = channel
        self.found: list[T] = []
        self._make = make
        self._opening = _DELIVER + shortstr(consumer_tag)
        self._is_open = False
        self._tag, self._redelivered = 0, False
        self._encoded_names = b""
        self._names = ("", "")
        self._properties = b""
        self._body: list[bytes] = []
        self._left = 0

    def take(self, data: bytes, at: int, kind: int, end: int) -> bool:
        """Whether the frame of ``data`` that begins ``at``, and ends before ``end``, was ours."""
        start = at + FRAME.size
        if kind == METHOD:
            if not data.startswith(self._opening, start):
                return False
            start += len(self._opening)
            self._tag, self._redelivered = _TAG.unpack_from(data, start)
            self._read_names(data[start + _TAG.size : end - 1])
            self._is_open = True
            return True
        if not self._is_open:
            return False
        if kind == HEADER:
            self._left = _BODY_SIZE.unpack_from(data, start)[2]
            self._properties = data[start + _BODY_SIZE.size : end - 1]
        else:
            self._body.append(data[start : end - 1])
            self._left -= end - at - OVERHEAD_BYTES
        if not self._left:
            self._complete()
        return True

    def _read_names(self, encoded: bytes) -> None:
        """Exchange and routing key; most often those of the last delivery."""
        if encoded != self._encoded_names:
            key_at = encoded[0] + 1
            self._names = (_text(encoded[1:key_at]), _text(encoded[key_at + 1 :]))
            self._encoded_names = encoded

    def _complete(self) -> None:
        body = b"".join(self._body)
        made = self._make(self._tag, self._redelivered, *self._names, self._properties, body)
        self.found.append(made)
        self._body.clear()
        self._is_open = False


class Confirm(NamedTuple):
    """The broker's word on one message, or on all up to it."""

    delivery_tag: int
    multiple: bool
    is_ack: bool


class ConfirmReader:
    """Reads the broker's confirms on one channel."""

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.found: list[Confirm] = []

    def take(self, data: bytes, at: int, kind: int, end: int) -> bool:
        """As :meth:`DeliveryReader.take`."""
        method = data[at + FRAME.size : at + FRAME.size + 4]
        if kind != METHOD or method not in (_CONFIRMED, _REFUSED) or end - at < _CONFIRM_BYTES:
            return False
        tag, multiple = _CONFIRM.unpack_from(data, at + FRAME.size + 4)
        self.found.append(Confirm(tag, bool(multiple & 1), method == _CONFIRMED))
        return True


def ack(channel: int, delivery_tag: int, *, multiple: bool = False) -> bytes:
    return _ACK.pack(METHOD, channel, 13, _BASIC, 80, delivery_tag, multiple, FRAME_END)


def nack(channel: int, delivery_tag: int) -> bytes:
    """Back to its queue, by ``basic.nack``."""
    return _NACK.pack(METHOD, channel, 13, _BASIC, 120, delivery_tag, _REQUEUE, FRAME_END)


def reject(channel: int, delivery_tag: int) -> bytes:
    """Away from its queue."""
    return _ACK.pack(METHOD, channel, 13, _BASIC, 90, delivery_tag, False, FRAME_END)


def publish_method(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """The first frame of a message. Raises ``ValueError`` for a name of more than 255 bytes."""
    payload = _PUBLISH + shortstr(exchange) + shortstr(routing_key) + bytes([mandatory])
    return _frame(METHOD, channel, payload)


def content(channel: int, properties: bytes, body: bytes, *, frame_bytes: int) -> bytes:
    """The other frames: ``properties`` as they are encoded, and the body in pieces that fit."""
    head = _frame(HEADER, channel, _BODY_SIZE.pack(_BASIC, 0, len(body)) + properties)
    most = frame_bytes - OVERHEAD_BYTES
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    return head + b"".join(_frame(BODY, channel, piece) for piece in pieces)


def shortstr(text: str | bytes) -> bytes:
    """Raises ``ValueError`` for more than 255 bytes."""
    encoded = text if isinstance(text, bytes) else text.encode()
    if len(encoded) > 255:
        raise ValueError(f"expected at most 255 bytes for a name, got {len(encoded)}")
    return bytes([len(encoded)]) + encoded


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return FRAME.pack(kind, channel, len(payload)) + payload + b"\xce"


def _text(encoded: bytes) -> str:
    """As pika has it: what is no UTF-8 stays bytes, to be sent on as it came."""
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded  # type: ignore[return-value]

"""Frames of AMQP 0-9-1. The few that come with every message are encoded and decoded here, all
others by pika.

Source: https://www.rabbitmq.com/amqp-0-9-1-protocol.html, section 4.2.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from pika import frame as pika_frame
from pika.amqp_object import Method

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
FRAME_END: Final = 0xCE
FRAME: Final = struct.Struct(">BHL")
"""Type, channel, size of the payload, which begins after it; the frame's end follows that."""
OVERHEAD_BYTES: Final = FRAME.size + 1

_BASIC: Final = 60
DELIVER: Final = struct.pack(">HH", _BASIC, 60)
GET_OK: Final = struct.pack(">HH", _BASIC, 71)
RETURN: Final = struct.pack(">HH", _BASIC, 50)
ACK: Final = struct.pack(">HH", _BASIC, 80)
NACK: Final = struct.pack(">HH", _BASIC, 120)
TAG: Final = struct.Struct(">Q?")
"""Delivery tag, redelivered."""
CONFIRM: Final = struct.Struct(">QB")
BODY_SIZE: Final = struct.Struct(">HHQ")
HEADER_OVERHEAD_BYTES: Final = OVERHEAD_BYTES + BODY_SIZE.size
"""Of the frame that carries the properties of a message."""
_PUBLISH: Final = struct.pack(">HHH", _BASIC, 40, 0)
_ACK: Final = struct.Struct(">BHLHHQ?B")
_NACK: Final = struct.Struct(">BHLHHQBB")
_REQUEUE: Final = 0b10


class Confirm(NamedTuple):
    """``basic.ack`` or ``basic.nack`` of one published message, or of all up to it."""

    delivery_tag: int
    multiple: bool
    is_ack: bool


def method_frame(channel: int, method: Method) -> bytes:
    """Raises what pika raises for a value that AMQP cannot carry."""
    return pika_frame.Method(channel, method).marshal()


def decoded_method(encoded: bytes) -> Method:
    """Of one whole method frame."""
    _, frame = pika_frame.decode_frame(encoded)
    assert isinstance(frame, pika_frame.Method)
    method: Method = frame.method
    return method


def ack(channel: int, delivery_tag: int, *, multiple: bool = False) -> bytes:
    return _ACK.pack(METHOD, channel, 13, _BASIC, 80, delivery_tag, multiple, FRAME_END)


def nack(channel: int, delivery_tag: int, *, multiple: bool = False) -> bytes:
    """``basic.nack`` with ``requeue``."""
    bits = _REQUEUE | multiple
    return _NACK.pack(METHOD, channel, 13, _BASIC, 120, delivery_tag, bits, FRAME_END)


def reject(channel: int, delivery_tag: int) -> bytes:
    """``basic.reject`` without ``requeue``."""
    return _ACK.pack(METHOD, channel, 13, _BASIC, 90, delivery_tag, False, FRAME_END)


def publish_method(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """The first frame of a message. Raises ``ValueError`` for a name of more than 255 bytes."""
    payload = _PUBLISH + shortstr(exchange) + shortstr(routing_key) + bytes([mandatory])
    return _frame(METHOD, channel, payload)


def content(channel: int, properties: bytes, body: bytes, *, frame_bytes: int) -> bytes:
    """The other frames: ``properties`` as they are encoded, and the body in pieces that fit."""
    head = _frame(HEADER, channel, BODY_SIZE.pack(_BASIC, 0, len(body)) + properties)
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


def text(encoded: bytes) -> str:
    """As pika has it: what is no UTF-8 stays bytes, to be sent on as it came."""
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded  # type: ignore[return-value]

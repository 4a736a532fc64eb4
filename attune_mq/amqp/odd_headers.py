"""Reads AMQP headers that hold a time which Python cannot.

Programs write timestamps in milliseconds where AMQP has seconds, which is a time in the year 55840,
and RabbitMQ carries it. pika 1.4 fails on it as it takes the frame apart, and with it the
connection: the message is delivered again to the next consumer, which fails in turn, and nobody
ever gets past it. So this module, when it is imported, puts its own function in front of pika's
:func:`pika.data.decode_value`, for all of the process: where pika fails on a time, it is read as
text, such as ``"1700000000000"``. All else is pika's, as before.
"""

from __future__ import annotations

import struct
from typing import Any

import pika.data

_TIMESTAMP = b"T"
_SECONDS = struct.Struct(">Q")
_decode_value = pika.data.decode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """As pika's: the value that begins at ``offset``, and where the next one begins."""
    try:
        return _decode_value(encoded, offset)
    except (ValueError, OverflowError, OSError):
        if encoded[offset : offset + 1] != _TIMESTAMP:
            raise
        (seconds,) = _SECONDS.unpack_from(encoded, offset + 1)
        return str(seconds), offset + 1 + _SECONDS.size


pika.data.decode_value = decode_value

"""Reads the properties of a message, also headers that hold a time which Python cannot.

Programs write timestamps in milliseconds where AMQP has seconds, which is a time in the year 55840,
and RabbitMQ carries it. pika 1.4 fails on it. Such a value is read as text, ``"1700000000000"``,
so that no message of anybody stops a consumer. All else is read by pika.
"""

from __future__ import annotations

import struct
from typing import Any

import pika
import pika.data

_FLAGS = struct.Struct(">H")
_SIZE = struct.Struct(">I")
_SECONDS = struct.Struct(">Q")
_CONTENT_TYPE, _CONTENT_ENCODING, HAS_HEADERS = 1 << 15, 1 << 14, 1 << 13


def decode_properties(encoded: bytes) -> pika.BasicProperties:
    """``encoded``: with its flags, as it stands in a content header frame."""
    try:
        return _decoded(encoded)
    except (ValueError, OverflowError, OSError):
        (flags,) = _FLAGS.unpack_from(encoded)
        if not flags & HAS_HEADERS:
            raise
        at = _FLAGS.size
        for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
            at += 1 + encoded[at] if flags & flag else 0
        headers, end = _table(encoded, at)
        without = _FLAGS.pack(flags & ~HAS_HEADERS) + encoded[_FLAGS.size : at] + encoded[end:]
        properties = _decoded(without)
        properties.headers = headers
        return properties


def _decoded(encoded: bytes) -> pika.BasicProperties:
    properties = pika.BasicProperties()
    properties.decode(encoded)
    return properties


def _table(encoded: bytes, at: int) -> tuple[dict[str, Any], int]:
    """The table that begins at ``at``, and where it ends."""
    table: dict[str, Any] = {}
    end = at + _SIZE.size + _SIZE.unpack_from(encoded, at)[0]
    at += _SIZE.size
    while at < end:
        name, at = pika.data.decode_short_string(encoded, at)
        table[str(name)], at = _value(encoded, at)
    return table, end


def _value(encoded: bytes, at: int) -> tuple[Any, int]:
    kind = encoded[at : at + 1]
    if kind == b"F":
        return _table(encoded, at + 1)
    if kind == b"A":
        end = at + 1 + _SIZE.size + _SIZE.unpack_from(encoded, at + 1)[0]
        at += 1 + _SIZE.size
        values = []
        while at < end:
            value, at = _value(encoded, at)
            values.append(value)
        return values, end
    try:
        return pika.data.decode_value(encoded, at)
    except (ValueError, OverflowError, OSError):
        if kind != b"T":
            raise
        return str(_SECONDS.unpack_from(encoded, at + 1)[0]), at + 1 + _SECONDS.size

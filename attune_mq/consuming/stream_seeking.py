"""Looks into a stream before a connection subscribes to it: what is at a place, and at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attune_mq.amqp.connection import Channel, Connection
from attune_mq.amqp.headers import decode_properties
from attune_mq.amqp.protocol import RawMessage
from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.message.stream_positions import OFFSET_HEADER, StreamPosition

SILENCE_S = 5.0
"""A broker that delivers nothing for so long has nothing there. It begins to read at once."""
_END_SILENCE_S = 0.3
_END_WITHIN_S = 2.0


def first_from(connection: Connection, stream: str, offset: int | str) -> StreamPosition | None:
    """The first message that is delivered from there; ``None`` after :data:`SILENCE_S`."""
    with _channel(connection) as channel:
        return next(_read(channel, stream, offset, SILENCE_S), None)


def end_of(connection: Connection, stream: str, runtime: Runtime = SYSTEM) -> StreamPosition | None:
    """The last message, or, while others are being published, one of the last; ``None``: empty."""
    last = None
    give_up_at = runtime.monotonic() + _END_WITHIN_S
    with _channel(connection) as channel:
        for position in _read(channel, stream, "last", _END_SILENCE_S):
            last = position
            if runtime.monotonic() > give_up_at:
                break
    return last


@contextmanager
def _channel(connection: Connection) -> Iterator[Channel]:
    channel = connection.channel()
    try:
        channel.basic_qos(1)
        yield channel
    finally:
        if channel.is_open:
            channel.close()


def _read(
    channel: Channel, stream: str, offset: int | str, silence_s: float
) -> Iterator[StreamPosition]:
    """With a prefetch of 1, so that each is acknowledged before the next one comes."""
    channel.basic_consume(stream, arguments={OFFSET_HEADER: offset})
    while True:
        found = [one for one in channel.wait_for_events(silence_s) if isinstance(one, RawMessage)]
        if not found:
            return
        for message in found:
            properties = decode_properties(message.properties)
            headers: Mapping[str, Any] = properties.headers or {}
            at = int(headers[OFFSET_HEADER])
            yield StreamPosition.of(at, properties.message_id, message.body)
            channel.basic_ack(message.delivery_tag)

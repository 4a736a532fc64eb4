"""Looks into a stream before a connection subscribes to it: what is at a place, and at the end.

With a prefetch of 1, so that nothing is left over when the channel is closed: RabbitMQ 3.10 closes
a connection on which a message of a stream is rejected, as pika does with what it has not handed
out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.message.stream_positions import OFFSET_HEADER, StreamPosition

SILENCE_S = 5.0
"""A broker that delivers nothing for so long has nothing there. It begins to read at once."""
_END_SILENCE_S = 0.3
_END_WITHIN_S = 2.0


def first_from(
    connection: pika.BlockingConnection, stream: str, offset: int | str
) -> StreamPosition | None:
    """The first message that is delivered from there; ``None`` after :data:`SILENCE_S`."""
    with _channel(connection) as channel:
        return next(_read(channel, stream, offset, SILENCE_S), None)


def end_of(connection: pika.BlockingConnection, stream: str) -> StreamPosition | None:
    """The last message, or, while others are being published, one of the last; ``None``: empty."""
    last = None
    give_up_at = time.monotonic() + _END_WITHIN_S
    with _channel(connection) as channel:
        for position in _read(channel, stream, "last", _END_SILENCE_S):
            last = position
            if time.monotonic() > give_up_at:
                break
    return last


@contextmanager
def _channel(connection: pika.BlockingConnection) -> Iterator[BlockingChannel]:
    channel = connection.channel()
    try:
        channel.basic_qos(prefetch_count=1)
        yield channel
    finally:
        if channel.is_open:
            channel.close()


def _read(
    channel: BlockingChannel, stream: str, offset: int | str, silence_s: float
) -> Iterator[StreamPosition]:
    arguments: dict[str, Any] = {OFFSET_HEADER: offset}
    coming = channel.consume(stream, arguments=arguments, inactivity_timeout=silence_s)
    for method, properties, body in coming:
        if method is None or properties is None:
            return
        headers: Mapping[str, Any] = properties.headers or {}
        offset = int(headers[OFFSET_HEADER])
        yield StreamPosition.of(offset, properties.message_id, body or b"")
        channel.basic_ack(method.delivery_tag or 0)

"""The private node on which all is measured: queues made, filled and found empty again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pika
from pika.adapters.blocking_connection import BlockingChannel

from benchmarks.clients.bare_pika import properties
from benchmarks.clients.measuring import EXCHANGE, ROUTING_KEY, body

QUEUE = "bench.queue"


@contextmanager
def channel_of(url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def make_queue(url: str) -> None:
    """One durable queue, new and empty, on a durable direct exchange."""
    with channel_of(url) as channel:
        channel.exchange_declare(EXCHANGE, "direct", durable=True)
        channel.queue_delete(QUEUE)
        channel.queue_declare(QUEUE, durable=True)
        channel.queue_bind(QUEUE, EXCHANGE, ROUTING_KEY)


def fill(url: str, count: int) -> None:
    with channel_of(url) as channel:
        for number in range(count):
            channel.basic_publish(EXCHANGE, ROUTING_KEY, body(number), properties(number))
    wait_for_depth(url, count)


def wait_for_depth(url: str, count: int, timeout_s: float = 30.0) -> None:
    """Until so many messages lie in the queue. Raises ``RuntimeError`` when they never do."""
    give_up_at = time.monotonic() + timeout_s
    with channel_of(url) as channel:
        while (depth := depth_of(channel)) != count:
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"{QUEUE}: expected {count} messages, found {depth}")
            channel.connection.sleep(0.05)


def depth_of(channel: BlockingChannel) -> int:
    return int(channel.queue_declare(QUEUE, passive=True).method.message_count)

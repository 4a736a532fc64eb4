"""Taking messages out of a queue, some at a time, before any other consumer of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import pika
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.outgoing import Outgoing

FIRST = 2**31 - 1
"""Consumers of a lower priority get nothing while one of a higher has room."""


class Intake:
    """A consumer of ``queue`` on a channel of its own. What it has and has not acknowledged is in
    its queue again when it is closed, or when its process is killed."""

    def __init__(self, connection: pika.BlockingConnection, queue: str, *, prefetch: int) -> None:
        self.queue = queue
        self._connection = connection
        self._arrived: deque[Delivery] = deque()
        self._channel: BlockingChannel = connection.channel()
        self._channel.tx_select()
        self._channel.basic_qos(prefetch_count=prefetch)
        self._tag = self._channel.basic_consume(
            queue, self._on_message, arguments={"x-priority": FIRST}
        )

    def take(self, count: int, *, wait_s: float) -> list[Delivery]:
        """Up to ``count``: those that are there, or else those that come within ``wait_s``."""
        deadline = time.monotonic() + wait_s
        self._connection.process_data_events(time_limit=0)
        while not self._arrived and (left_s := deadline - time.monotonic()) > 0:
            self._connection.process_data_events(time_limit=left_s)
        return [self._arrived.popleft() for _ in range(min(count, len(self._arrived)))]

    @property
    def is_cancelled(self) -> bool:
        """Whether the broker has ended it, since its queue is gone. What was taken stays taken."""
        return self._tag not in self._channel.consumer_tags

    def wait_for_cancel(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.is_cancelled and (left_s := deadline - time.monotonic()) > 0:
            self._connection.process_data_events(time_limit=min(left_s, 0.1))

    def pause(self, pause_s: float) -> None:
        """Waits, and serves the connection."""
        deadline = time.monotonic() + pause_s
        while (left_s := deadline - time.monotonic()) > 0:
            self._connection.process_data_events(time_limit=left_s)

    def acknowledge(self, deliveries: Sequence[Delivery], record: Outgoing) -> None:
        """Those that were taken before any that is still out, and publishes with it a record.

        In one transaction: the broker does both when it has the one frame that ends it, or
        neither. The record is delivered first, so that a broker that is killed just then rather
        keeps the record and forgets the acknowledgement.
        """
        self._channel.basic_publish(
            record.exchange, record.routing_key, record.body, record.properties
        )
        self._channel.basic_ack(deliveries[-1].delivery_tag, multiple=True)
        self._channel.tx_commit()

    def close(self) -> None:
        if self._channel.is_open:
            self._channel.close()

    def _on_message(
        self,
        _channel: BlockingChannel,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        delivery = Delivery.of(method, properties, body, queue=self.queue, consumer_tag=self._tag)
        self._arrived.append(delivery)

"""Taking messages out of a queue, some at a time, before any other consumer of it.

How many at a time follows from their size: the broker sends as many as the prefetch count allows
before anybody knows how large they are. So it begins with few, becomes larger while messages are
small, and smaller when they are not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outgoing
from attune_mq.migration.queue_job import NotMigrated

FIRST = 2**31 - 1
"""Consumers of a lower priority get nothing while one of a higher has room."""
MOST_MESSAGES = 64
"""At a time. Large messages behind small ones arrive in this number once."""
FEWEST_MESSAGES = 2
MOST_BYTES = 16_000_000
"""At a time, by the largest message of the last ones; one message may be larger."""
GROWTH = 4


class Intake:
    """A consumer of ``queue`` on a channel of its own. What it has and has not acknowledged is in
    its queue again when it is closed, or when its process is killed."""

    def __init__(self, connection: pika.BlockingConnection, queue: str) -> None:
        self.queue = queue
        self._connection = connection
        self._arrived: deque[Delivery] = deque()
        self._channel: BlockingChannel = connection.channel()
        self._channel.tx_select()
        self._prefetch = FEWEST_MESSAGES
        self._tag = self._consume()

    def has_room(self, taken: Sequence[Delivery]) -> bool:
        """Whether it had after these were taken, so that no other consumer was given a message."""
        return len(taken) < self._prefetch

    def take(self, *, wait_s: float) -> list[Delivery]:
        """All that are there, or else those that come within ``wait_s``. Where they are too large
        for the prefetch count, as many as that: it is changed while none is on its way."""
        self._connection.process_data_events(time_limit=0)
        count = -1
        while len(self._arrived) > count and (not self._arrived or self._is_over):
            count = len(self._arrived)
            self._wait_for_more(wait_s)
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    @property
    def _is_over(self) -> bool:
        """Whether as many as these would be too many bytes, and more are on their way."""
        is_full = len(self._arrived) >= self._prefetch
        return not is_full and self._prefetch * self._largest(self._arrived) > MOST_BYTES

    def _wait_for_more(self, wait_s: float) -> None:
        count, deadline = len(self._arrived), time.monotonic() + wait_s
        while len(self._arrived) == count and (left_s := deadline - time.monotonic()) > 0:
            self._connection.process_data_events(time_limit=left_s)

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
        resized = self._resized(deliveries)
        if resized:  # all are in hand, so that none comes while there is no consumer
            self._channel.basic_cancel(self._tag)
        self._channel.basic_publish(
            record.exchange, record.routing_key, record.body, record.properties
        )
        self._channel.basic_ack(deliveries[-1].delivery_tag, multiple=True)
        self._channel.tx_commit()
        if resized:
            self._prefetch = resized
            self._tag = self._consume()

    def close(self) -> None:
        if self._channel.is_open:
            self._channel.close()

    def _consume(self) -> str:
        self._channel.basic_qos(prefetch_count=self._prefetch)
        return self._channel.basic_consume(
            self.queue, self._on_message, arguments={"x-priority": FIRST}
        )

    def _resized(self, deliveries: Sequence[Delivery]) -> int | None:
        """The prefetch count that suits these, where the broker can be told: a message that is on
        its way to a consumer would be returned, and its return be counted."""
        if len(deliveries) < self._prefetch or self.is_cancelled:
            return None
        fitting = min(
            MOST_BYTES // self._largest(deliveries), MOST_MESSAGES, GROWTH * self._prefetch
        )
        wanted = max(fitting, 1)
        return wanted if wanted != self._prefetch else None

    @staticmethod
    def _largest(deliveries: Iterable[Delivery]) -> int:
        return max((len(one.body) for one in deliveries), default=0) or 1

    def _on_message(
        self,
        _channel: BlockingChannel,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        delivery = Delivery.of(method, properties, body, queue=self.queue, consumer_tag="")
        self._arrived.append(delivery)


@contextmanager
def taking_from(connection: pika.BlockingConnection, queue: str) -> Iterator[Intake]:
    try:
        intake = Intake(connection, queue)
    except pika_errors.ChannelClosedByBroker as error:
        raise NotMigrated(f"we may not consume it: {error.reply_text}") from error
    try:
        yield intake
    finally:
        intake.close()

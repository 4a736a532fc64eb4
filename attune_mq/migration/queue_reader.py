"""Fetching messages from the queues of a migration: all consumers and gets are here.

The broker sends as many messages as the prefetch count allows before their size is known. So it
starts small, grows while messages are small, and shrinks when they are not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outgoing
from attune_mq.migration.report import NotMigrated

HIGHEST_PRIORITY = 2**31 - 1
"""Consumers of a lower priority get nothing while one of a higher has room."""
MOST_MESSAGES = 64
"""Of one batch. Large messages behind small ones arrive in this number once."""
FEWEST_MESSAGES = 2
MOST_BYTES = 16_000_000
"""Of one batch, by the largest of the last messages; one message may be larger."""
GROWTH = 4
_MOST_HELD_AT_ONCE = 1_000


class QueueReader:
    """A consumer of ``queue``, with priority over all others, on a channel of its own. Messages
    that it has not acknowledged are requeued when it is closed, or when its process is killed."""

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
        """All that have arrived, or else those that arrive within ``wait_s``. Where they are too
        large for the prefetch count, waits for that many: it changes while none is in flight."""
        self._connection.process_data_events(time_limit=0)
        count = -1
        while len(self._arrived) > count and (not self._arrived or self._exceeds_bytes):
            count = len(self._arrived)
            self._wait_for_more(wait_s)
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    @property
    def is_cancelled(self) -> bool:
        """Whether the broker has cancelled it, since its queue is deleted. Messages that it was
        given stay."""
        return self._tag not in self._channel.consumer_tags

    def wait_for_cancel(self, timeout_s: float) -> None:
        self._wait_until(lambda: self.is_cancelled, timeout_s)

    def acknowledge(self, deliveries: Sequence[Delivery], record: Outgoing) -> None:
        """Acknowledges the oldest unacked messages, and publishes a record with that.

        In one transaction: the broker does both when it has the one frame that commits it, or
        neither. The record is delivered first, so that a broker that is killed at that moment
        keeps the record and forgets the acknowledgement, rather than the reverse.
        """
        resized = self._resized(deliveries)
        if resized:  # all have arrived: none is in flight while there is no consumer
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
            self.queue, self._on_message, arguments={"x-priority": HIGHEST_PRIORITY}
        )

    def _wait_for_more(self, wait_s: float) -> None:
        before = len(self._arrived)
        self._wait_until(lambda: len(self._arrived) > before, wait_s)

    def _wait_until(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_done() and (left_s := deadline - time.monotonic()) > 0:
            self._connection.process_data_events(time_limit=left_s)

    @property
    def _exceeds_bytes(self) -> bool:
        """Whether a full batch of these would be too large, and more are in flight."""
        is_full = len(self._arrived) >= self._prefetch
        return not is_full and self._prefetch * _largest(self._arrived) > MOST_BYTES

    def _resized(self, deliveries: Sequence[Delivery]) -> int | None:
        """The prefetch count that suits these, where it can be changed: a message in flight to a
        consumer that is cancelled would be requeued, and the return be counted."""
        if len(deliveries) < self._prefetch or self.is_cancelled:
            return None
        fitting = min(MOST_BYTES // _largest(deliveries), MOST_MESSAGES, GROWTH * self._prefetch)
        wanted = max(fitting, 1)
        return wanted if wanted != self._prefetch else None

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        delivery = Delivery.of(method, properties, body, queue=self.queue, consumer_tag="")
        self._arrived.append(delivery)


def _largest(deliveries: Iterable[Delivery]) -> int:
    return max((len(one.body) for one in deliveries), default=0) or 1


class HeldQueue:
    """Consumers that hold all messages of a retry queue unacknowledged.

    A message that expires there is dead-lettered by the default exchange straight to the queue, so
    it cannot be parked. An unacked message does not expire. Their bodies are not kept. They are
    requeued at their place by :meth:`release`, or if this process is killed. A consumer fetches its
    prefetch count; more is fetched by a further consumer, since nothing is acknowledged."""

    def __init__(self, connection: pika.BlockingConnection, queue: str) -> None:
        self._queue = queue
        self._connection = connection
        self._held = self._capacity = 0
        self._prefetch = FEWEST_MESSAGES
        self._largest_bytes = 1
        self._last_tag = 0
        self._channel: BlockingChannel = connection.channel()
        self._fetch_more()

    def has_all(self, is_empty: Callable[[str], bool]) -> bool:
        """Whether no message is ready; ``is_empty`` says it of a queue that we consume. Otherwise
        it fetches more of them."""
        self._connection.process_data_events(time_limit=0)
        if self._held >= self._capacity:
            self._fetch_more()
            return False
        return is_empty(self._queue)

    def release(self) -> None:
        if not self._channel.is_open:
            return
        if self._last_tag:
            self._channel.basic_nack(self._last_tag, multiple=True, requeue=True)
        self._channel.close()

    def _fetch_more(self) -> None:
        fitting = max(MOST_BYTES // self._largest_bytes, 1)
        self._prefetch = min(self._prefetch * GROWTH, fitting, _MOST_HELD_AT_ONCE)
        self._channel.basic_qos(prefetch_count=self._prefetch)
        self._channel.basic_consume(self._queue, self._on_message)
        self._capacity += self._prefetch

    def _on_message(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._held += 1
        self._last_tag = method.delivery_tag
        self._largest_bytes = max(self._largest_bytes, len(body))


@contextmanager
def reading(connection: pika.BlockingConnection, queue: str) -> Iterator[QueueReader]:
    with _refusals(queue):
        reader = QueueReader(connection, queue)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def holding(
    connection: pika.BlockingConnection, queues: Iterable[str]
) -> Iterator[Sequence[HeldQueue]]:
    held: list[HeldQueue] = []
    try:
        for queue in queues:
            with _refusals(queue):
                held.append(HeldQueue(connection, queue))
        yield held
    finally:
        for one in held:
            one.release()


def headers_in(connection: pika.BlockingConnection, queue: str) -> list[dict[Any, Any]]:
    """Of all messages that are ready; the queue keeps them."""
    found = []
    channel = connection.channel()
    while True:
        method, properties, _ = channel.basic_get(queue)
        if method is None or properties is None:
            break
        found.append(dict(properties.headers or {}))
    channel.close()
    return found


@contextmanager
def _refusals(queue: str) -> Iterator[None]:
    try:
        yield
    except pika_errors.ChannelClosedByBroker as error:
        raise NotMigrated(f"consuming queue '{queue}' is refused: {error.reply_text}") from error

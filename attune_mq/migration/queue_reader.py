"""Fetching messages from the queues of a migration: all consumers and gets are here.

The broker sends as many messages as the prefetch count allows before their size is known. So it
starts small, grows while messages are small, and shrinks when they are not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from attune_mq.amqp.channel_methods import Refused
from attune_mq.amqp.connection import Channel, Connection
from attune_mq.amqp.headers import decode_properties
from attune_mq.amqp.protocol import RawMessage
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

    def __init__(self, connection: Connection, queue: str) -> None:
        self.queue = queue
        self._connection = connection
        self._arrived: deque[Delivery] = deque()
        self._channel = connection.channel()
        self._channel.tx_select()
        self._prefetch = FEWEST_MESSAGES
        self._tag = self._consume()

    def has_room(self, taken: Sequence[Delivery]) -> bool:
        """Whether it had after these were taken, so that no other consumer was given a message."""
        return len(taken) < self._prefetch

    def take(self, *, wait_s: float) -> list[Delivery]:
        """All that have arrived, or else those that arrive within ``wait_s``. Where they are too
        large for the prefetch count, waits for that many: it changes while none is in flight."""
        self._receive(0.0)
        count = -1
        while len(self._arrived) > count and (not self._arrived or self._exceeds_bytes):
            count = len(self._arrived)
            self._receive(wait_s)
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    @property
    def is_cancelled(self) -> bool:
        """Whether the broker has cancelled it, since its queue is deleted. Messages that it was
        given stay."""
        return self._tag not in self._channel.state.consumer_tags

    def wait_for_cancel(self, timeout_s: float) -> None:
        self._connection.drive(lambda: self.is_cancelled, timeout_s)

    def acknowledge(self, deliveries: Sequence[Delivery], record: Outgoing) -> None:
        """Acknowledges the oldest unacked messages, and publishes a record with that.

        In one transaction: the broker does both when it has the one frame that commits it, or
        neither. The record is delivered first, so that a broker that is killed at that moment
        keeps the record and forgets the acknowledgement, rather than the reverse.
        """
        resized = self._resized(deliveries)
        if resized:  # all have arrived: none is in flight while there is no consumer
            self._channel.basic_cancel(self._tag)
        self._channel.send(
            record.frames(self._channel.state.number, self._connection.link.frame_max)
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
        self._channel.basic_qos(self._prefetch)
        return self._channel.basic_consume(self.queue, arguments={"x-priority": HIGHEST_PRIORITY})

    def _receive(self, wait_s: float) -> None:
        """What has arrived, or arrives within ``wait_s``."""
        self._arrived += [
            Delivery.of(one, queue=self.queue) for one in _messages(self._channel, wait_s)
        ]

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


def _messages(channel: Channel, wait_s: float) -> list[RawMessage]:
    events = channel.wait_for_events(wait_s)
    return [event for event in events if isinstance(event, RawMessage)]


def _largest(deliveries: Iterable[Delivery]) -> int:
    return max((len(one.body) for one in deliveries), default=0) or 1


class HeldQueue:
    """Consumers that hold all messages of a retry queue unacknowledged.

    A message that expires there is dead-lettered by the default exchange straight to the queue, so
    it cannot be parked. An unacked message does not expire. Their bodies are not kept. They are
    requeued at their place by :meth:`release`, or if this process is killed. A consumer fetches its
    prefetch count; more is fetched by a further consumer, since nothing is acknowledged."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self._queue = queue
        self._connection = connection
        self._held = self._capacity = 0
        self._prefetch = FEWEST_MESSAGES
        self._largest_bytes = 1
        self._last_tag = 0
        self._channel = connection.channel()
        self._fetch_more()

    def has_all(self, is_empty: Callable[[str], bool]) -> bool:
        """Whether no message is ready; ``is_empty`` says it of a queue that we consume. Otherwise
        it fetches more of them."""
        for message in _messages(self._channel, 0.0):
            self._held += 1
            self._last_tag = message.delivery_tag
            self._largest_bytes = max(self._largest_bytes, len(message.body))
        if self._held >= self._capacity:
            self._fetch_more()
            return False
        return is_empty(self._queue)

    def release(self) -> None:
        if not self._channel.is_open:
            return
        if self._last_tag:
            self._channel.basic_nack(self._last_tag, multiple=True)
        self._channel.close()

    def _fetch_more(self) -> None:
        fitting = max(MOST_BYTES // self._largest_bytes, 1)
        self._prefetch = min(self._prefetch * GROWTH, fitting, _MOST_HELD_AT_ONCE)
        self._channel.basic_qos(self._prefetch)
        self._channel.basic_consume(self._queue)
        self._capacity += self._prefetch


@contextmanager
def reading(connection: Connection, queue: str) -> Iterator[QueueReader]:
    with _refusals(queue):
        reader = QueueReader(connection, queue)
    with closing(reader):
        yield reader


@contextmanager
def holding(connection: Connection, queues: Iterable[str]) -> Iterator[Sequence[HeldQueue]]:
    held: list[HeldQueue] = []
    try:
        for queue in queues:
            with _refusals(queue):
                held.append(HeldQueue(connection, queue))
        yield held
    finally:
        for one in held:
            one.release()


def headers_in(connection: Connection, queue: str) -> list[dict[Any, Any]]:
    """Of all messages that are ready; the queue keeps them."""
    found = []
    channel = connection.channel()
    while (message := channel.basic_get(queue)) is not None:
        found.append(dict(decode_properties(message.properties).headers or {}))
    channel.close()
    return found


@contextmanager
def _refusals(queue: str) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        raise NotMigrated(f"consuming queue '{queue}' is refused: {error.text}") from error

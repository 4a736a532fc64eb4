"""Holding what waits in the retry queues of a queue while that is replaced.

A message that waits there comes back by the default exchange, straight to the queue, so it cannot
be parked: it would go to a consumer that nobody asks about any more, or to no queue. A message that
somebody holds does not expire, so a migration holds them all. It forgets their bodies, and returns
them where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.migration.intake import FEWEST_MESSAGES, GROWTH, MOST_BYTES

_MOST_AT_ONCE = 1_000


class HeldRetries:
    """``is_empty``: whether a queue that we consume has no message that is ready. On
    a channel of its own for each queue; if this process is killed, all are in their queues
    again."""

    def __init__(
        self,
        connection: pika.BlockingConnection,
        queues: Sequence[str],
        is_empty: Callable[[str], bool],
    ) -> None:
        self._connection = connection
        self._is_empty = is_empty
        self._holding = [_Holding(connection, queue) for queue in queues]

    def have_all(self) -> bool:
        """Whether none waits. Otherwise it takes more of them."""
        self._connection.process_data_events(time_limit=0)
        for one in self._holding:
            if one.has_room and self._is_empty(one.queue):
                continue
            one.take_more()
            return False
        return True

    def release(self) -> None:
        for one in self._holding:
            one.release()


class _Holding:
    """A consumer takes so many; more are taken by a further consumer, since nothing is settled."""

    def __init__(self, connection: pika.BlockingConnection, queue: str) -> None:
        self.queue = queue
        self._held = self._capacity = 0
        self._step = FEWEST_MESSAGES
        self._largest_bytes = 1
        self._channel: BlockingChannel = connection.channel()
        self._last_tag = 0
        self.take_more()

    @property
    def has_room(self) -> bool:
        return self._held < self._capacity

    def take_more(self) -> None:
        if self.has_room:
            return
        fitting = max(MOST_BYTES // self._largest_bytes, 1)
        self._step = min(self._step * GROWTH, fitting, _MOST_AT_ONCE)
        self._channel.basic_qos(prefetch_count=self._step)
        self._channel.basic_consume(self.queue, self._on_message)
        self._capacity += self._step

    def release(self) -> None:
        if not self._channel.is_open:
            return
        if self._last_tag:
            self._channel.basic_nack(self._last_tag, multiple=True, requeue=True)
        self._channel.close()

    def _on_message(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._held += 1
        self._last_tag = method.delivery_tag
        self._largest_bytes = max(self._largest_bytes, len(body))

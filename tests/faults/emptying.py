"""Empties the queues of :mod:`tests.faults.sending`, and says what came out of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import pika
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.message import decode
from tests.faults.sending import FULL, OPEN

TAKE_FROM_FULL_EVERY_S = 0.005
QUIET_FOR_S = 1.0
"""What is still on its way in the broker comes within that."""

Bodies = Iterator[bytes | None]
"""Of messages, as they come; ``None`` where there is none just now."""


class _Arrival(NamedTuple):
    number: int
    message_id: str


class Emptying:
    """Takes what comes out of both queues while the context lasts: all of one as it comes, of the
    other seldom, so that it is full. On a connection that nothing strikes: each message comes as
    often as it was in the queue."""

    def __init__(self, url: str) -> None:
        self._arrived: dict[str, list[_Arrival]] = {OPEN: [], FULL: []}
        self._url = url
        self._last_s = 0.0
        self._finishing = threading.Event()
        self._threads = [
            threading.Thread(target=self._empty, args=(OPEN, _as_they_come)),
            threading.Thread(target=self._empty, args=(FULL, self._seldom)),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """After the last message was sent: until nothing came for a while."""
        self._last_s = time.monotonic()
        self._finishing.set()
        for thread in self._threads:
            thread.join()

    def deliveries(self, queue: str) -> Counter[int]:
        """How often each number came."""
        return Counter(one.number for one in self._arrived[queue])

    def messages(self, queue: str) -> Counter[int]:
        """In how many messages each number came: one that was sent again, under its own id, is
        none more, since an inbox drops it."""
        return Counter(one.number for one in set(self._arrived[queue]))

    def _empty(self, queue: str, bodies: Callable[[BlockingChannel, str], Bodies]) -> None:
        parameters = pika.URLParameters(self._url)
        parameters.heartbeat = 0
        connection = pika.BlockingConnection(parameters)
        for body in bodies(connection.channel(), queue):
            if body is not None:
                envelope = decode(body)
                number = envelope.payload["execution_id"]
                self._arrived[queue].append(_Arrival(number, envelope.message_id))
                self._last_s = time.monotonic()
            elif self._finishing.is_set() and time.monotonic() - self._last_s > QUIET_FOR_S:
                break
        connection.close()

    def _seldom(self, channel: BlockingChannel, queue: str) -> Bodies:
        while True:
            _, _, body = channel.basic_get(queue, auto_ack=True)
            yield body
            if body is None or not self._finishing.is_set():
                channel.connection.sleep(TAKE_FROM_FULL_EVERY_S)


def _as_they_come(channel: BlockingChannel, queue: str) -> Bodies:
    for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.1):
        yield body

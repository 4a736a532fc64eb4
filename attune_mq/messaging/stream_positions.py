"""A place in a stream, what a consumer of one is handed, and where its position may be stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple, Protocol

from attune_mq.messaging.delivery import UnreadDelivery

OFFSET_HEADER = "x-stream-offset"
_FINGERPRINT_BYTES = 16


class StreamPosition(NamedTuple):
    """A message of a stream: the number that the broker gave it, and what it is recognised by.

    Numbers begin again at 0 in a stream that was deleted and declared again: a position whose
    fingerprint is another one is of a stream that is gone.
    """

    offset: int
    fingerprint: str

    @classmethod
    def of(cls, offset: int, message_id: str | None, body: bytes) -> StreamPosition:
        digest = blake2b(str(message_id or "").encode("utf-8", "backslashreplace"))
        digest.update(b"\0" + body)
        return cls(offset, digest.hexdigest()[: 2 * _FINGERPRINT_BYTES])


class PositionStore(Protocol):
    """Where the positions of consumers with ``offset: stored`` are kept; for one, see
    ``attune_mq.transactional.StreamPositions``. Called by a consumer's own threads.

    ``consumer`` is the key of the consumer in the file: its instances share a position.
    """

    def read(self, stream: str, consumer: str) -> StreamPosition | None:
        """The last message behind which the consumer is; ``None``: it never was in the stream."""

    def store(self, stream: str, consumer: str, position: StreamPosition) -> None:
        """In a transaction of its own; one that is behind the stored position changes nothing."""

    def forget(self, stream: str, consumer: str, position: StreamPosition) -> None:
        """If that is still the stored one: its stream is gone."""


class StreamDelivery(UnreadDelivery):
    """One of a stream, which takes nothing back, counts nothing, and has other readers.

    So it is tried again where it is, and how often it failed is known to its consumer alone, until
    that ends: no header is believed. One that ends its process is met again at the next start.
    """

    def __init__(
        self,
        consumer: str,
        failures: Callable[[int], int],
        queue: str,
        consumer_tag: str,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        properties: bytes,
        body: bytes,
    ) -> None:
        super().__init__(
            queue, consumer_tag, delivery_tag, redelivered, exchange, routing_key, properties, body
        )
        self.__dict__.update(consumer=consumer, _failures=failures)

    consumer: str
    """The key of the consumer in the file, without an instance."""

    @cached_property
    def position(self) -> StreamPosition:
        offset = int(self.headers[OFFSET_HEADER])
        return StreamPosition.of(offset, self.properties.message_id, self.body)

    @property
    def failures(self) -> int:
        failures: Callable[[int], int] = self.__dict__["_failures"]
        return failures(self.position.offset)

    @property
    def redeliveries(self) -> int:
        return 0

    @property
    def is_fresh(self) -> bool:
        return True

    @property
    def hold_s(self) -> float:
        return 0.0

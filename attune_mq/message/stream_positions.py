"""A place in a stream, what a consumer of one is handed, and where its position may be stored."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple, Protocol

from attune_mq.message.delivery import Delivery, UnreadDelivery

OFFSET_HEADER = "x-stream-offset"
_FINGERPRINT_BYTES = 16


class StreamPosition(NamedTuple):
    """A message of a stream: the number that the broker gave it, and what it is recognised by.

    Numbers begin again at 0 in a stream that was deleted and declared again: a position whose
    fingerprint is another one is of a stream that is gone.
    """

    offset: int
    """-1: before the first message."""
    fingerprint: str
    """Empty: of a position that an operator chose, whatever message is there."""
    generation: int = 0
    """How often the stream was seen to be declared anew, or the position was chosen: what is still
    being handled from before then moves no position."""

    @classmethod
    def of(
        cls, offset: int, message_id: str | None, body: bytes, generation: int = 0
    ) -> StreamPosition:
        id_bytes = str(message_id or "").encode("utf-8", "backslashreplace")
        digest = blake2b(id_bytes, digest_size=_FINGERPRINT_BYTES)
        digest.update(b"\0" + body)
        return cls(offset, digest.hexdigest(), generation)

    @property
    def is_beginning(self) -> bool:
        return self.offset < 0

    def next_generation(self) -> StreamPosition:
        """The beginning of the stream that took the place of this one's."""
        return StreamPosition(-1, "", self.generation + 1)


class PositionStore(Protocol):
    """Where the positions of consumers with ``offset: stored`` are kept; for one, see
    ``attune_mq.transactional.StreamPositions``. Called by a consumer's own threads.

    ``consumer`` is the key of the consumer in the file: its instances share a position.
    """

    def read(self, stream: str, consumer: str) -> StreamPosition | None:
        """The last message behind which the consumer is; ``None``: it never was in the stream."""

    def store(self, stream: str, consumer: str, position: StreamPosition) -> None:
        """In a transaction of its own; one that is behind the stored position, in its generation or
        by it, changes nothing."""


class StreamDelivery(UnreadDelivery):
    """One of a stream, which takes nothing back, counts nothing, and has other readers.

    So it is tried again where it is, and how often it failed is known to its consumer alone, until
    that ends: no header is believed. One that ends its process is met again at the next start.
    """

    def __init__(
        self,
        consumer: str,
        failures: Callable[[int], int],
        generation: int,
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
        self.__dict__.update(consumer=consumer, generation=generation, _failures=failures)

    @classmethod
    def like(cls, delivery: Delivery, *, offset: int, failures: int) -> StreamDelivery:
        """As if it had come from a stream, which is then ``delivery.queue``."""
        made = cls.__new__(cls)
        position = StreamPosition.of(offset, delivery.properties.message_id, delivery.body)
        made.__dict__.update(
            vars(delivery),
            consumer=delivery.consumer_tag,
            generation=0,
            position=position,
            failures=failures,
        )
        return made

    consumer: str
    """The key of the consumer in the file, without an instance."""
    generation: int

    @cached_property
    def position(self) -> StreamPosition:
        offset = int(self.headers[OFFSET_HEADER])
        message_id = self.properties.message_id
        return StreamPosition.of(offset, message_id, self.body, self.generation)

    @cached_property
    def failures(self) -> int:
        """Before this attempt."""
        failures: Callable[[int], int] = self.__dict__["_failures"]
        return failures(self.position.offset)

    def after(self, failures: int) -> StreamDelivery:
        """The same for its next attempt."""
        again = copy.copy(self)
        again.__dict__["failures"] = failures
        return again

    @property
    def redeliveries(self) -> int:
        return 0

    @property
    def is_fresh(self) -> bool:
        return True

    def hold_s(self, now_s: float, wall_s: float) -> float:
        return 0.0

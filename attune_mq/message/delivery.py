"""What the broker hands to a consumer, and what a handler gets of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

import pika

from attune_mq.amqp.headers import decode_properties
from attune_mq.amqp.protocol import RawMessage
from attune_mq.message.deaths import Death, deaths_of
from attune_mq.message.envelope import Envelope, Ids
from attune_mq.message.payload import Payload

FAILURES = "x-attune-attempt"
REDELIVERIES = "x-attune-redeliveries"
COUNTED_IN = "x-attune-counted-in"
"""The queue for which those two were counted: who handles a dead letter begins to count anew."""
NOT_BEFORE = "x-attune-not-before"
"""In milliseconds since 1970, by the clock of the consumer that wrote it."""
HELD_FOR = "x-attune-held-for"
"""How long it was to be held when that was written, in milliseconds: clocks jump, and differ."""
REASON = "x-attune-reason"
QUEUE = "x-attune-queue"
BROKERS_COUNT = "x-delivery-count"
BROKERS_COUNTS = (BROKERS_COUNT, "x-acquired-count")
"""Of a quorum queue. RabbitMQ 4.3 counts under the second name how often a message was delivered,
and under the first only what may have been its fault: not that it was requeued by ``nack``."""

MAX_HOLD_S = 900.0
"""How long a consumer holds a message at a time. RabbitMQ takes a consumer that has not settled
one for 30 minutes for broken."""
_DUE_WITHIN_S = 1.0
_HAS_HEADERS = 0x20
"""In the first byte of encoded properties."""
_WITHOUT_HEADERS: Final[Mapping[str, Any]] = {"headers": {}}
_FRESH: Final[Mapping[str, Any]] = {
    "headers": {},
    "is_fresh": True,
    "failures": 0,
    "may_be_poison": False,
}
"""What is known of most deliveries as they come."""
_MAX_COUNT = 2**53
"""Anybody can write any number there; ours are to fit AMQP's also when one is added."""

_P = TypeVar("_P", bound=Payload)


@dataclass(frozen=True)
class Delivery:
    """One delivery: what came, from which queue, to which consumer."""

    body: bytes
    properties: pika.BasicProperties
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    queue: str
    consumer_tag: str

    @staticmethod
    def of(raw: RawMessage, *, queue: str, consumer_tag: str = "") -> Delivery:
        """``consumer_tag`` is empty where it was fetched."""
        return UnreadDelivery(queue, consumer_tag, *raw)

    @cached_property
    def headers(self) -> Mapping[str, Any]:
        return self.properties.headers or {}

    def ids(self) -> Ids:
        """What its properties say, for a body that does not."""
        return Ids(self.properties.message_id, self.properties.correlation_id)

    @cached_property
    def failures(self) -> int:
        """How often handling it failed before in this queue, by any consumer."""
        return self._counted(FAILURES)

    @property
    def redeliveries(self) -> int:
        """How often it was delivered and returned unacked. A quorum queue counts that itself;
        a classic queue says only "not the first time", so that consumers count."""
        if self.counted_by_broker:
            return _count(self.headers, BROKERS_COUNT)
        return self._counted(REDELIVERIES) + (1 if self.redelivered else 0)

    @cached_property
    def is_fresh(self) -> bool:
        """As most are: nobody had it before, and nothing is written on it."""
        return not self.redelivered and not self.headers

    @property
    def counted_by_broker(self) -> bool:
        return any(name in self.headers for name in BROKERS_COUNTS)

    @property
    def is_counted(self) -> bool:
        """Whether the last return is written down, by the broker or by a consumer."""
        return self.counted_by_broker or not self.redelivered

    @cached_property
    def may_be_poison(self) -> bool:
        """It was redelivered before, perhaps because handling it ended the process, and is to be
        handled now."""
        return not self.is_fresh and self.is_counted and self.redeliveries > 0

    def kept_since_s(self, now_s: float) -> float:
        """Since when a consumer keeps it, unacked, for want of what its handler needs: on the
        monotonic clock, from when that is first asked for. A trial does not make it younger."""
        kept_since_s: float = self.__dict__.setdefault("_kept_since_s", now_s)
        return kept_since_s

    def hold_s(self, now_s: float, wall_s: float) -> float:
        """How long it is to be held before it is tried again, :data:`MAX_HOLD_S` at most.
        ``now_s``: on the monotonic clock; ``wall_s``: since 1970."""
        return min(self._due_in_s(now_s, wall_s), MAX_HOLD_S)

    def is_due(self, now_s: float, wall_s: float) -> bool:
        """Whether it was held for as long as was asked for."""
        return self._due_in_s(now_s, wall_s) < _DUE_WITHIN_S

    def _due_in_s(self, now_s: float, wall_s: float) -> float:
        not_before_ms = _count(self.headers, NOT_BEFORE)
        if not not_before_ms:
            return 0.0
        held_for_ms = _count(self.headers, HELD_FOR) or math.inf
        # From when it is first asked for, which is when it came.
        held_until_s: float = self.__dict__.setdefault("_until_s", now_s + held_for_ms / 1000)
        return max(0.0, min(not_before_ms / 1000 - wall_s, held_until_s - now_s))

    def _counted(self, name: str) -> int:
        if not self.headers:
            return 0
        counted_here = self.headers.get(COUNTED_IN, self.queue) == self.queue
        return _count(self.headers, name) if counted_here else 0

    @property
    def died_in(self) -> str | None:
        """The queue that it died in last, or was given up from; its own retry queues aside."""
        waited = f"{self.queue}.retry."
        queues = [death.queue for death in self.deaths if not death.queue.startswith(waited)]
        given_up = self.headers.get(QUEUE)
        if queues:
            return queues[0]
        return given_up if isinstance(given_up, str) else None

    @cached_property
    def deaths(self) -> tuple[Death, ...]:
        """How it died before, newest first, by the broker's word."""
        return deaths_of(self.headers)


class UnreadDelivery(Delivery):
    """As it came from the connection: the properties are taken apart when they are asked for.

    Headers are asked for at once, so that one which cannot be read shows where it always did.
    """

    def __init__(
        self,
        queue: str,
        consumer_tag: str,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        properties: bytes,
        body: bytes,
    ) -> None:
        """``properties``: as they are encoded, flags included."""
        self.__dict__.update(
            body=body,
            delivery_tag=delivery_tag,
            redelivered=redelivered,
            exchange=exchange,
            routing_key=routing_key,
            queue=queue,
            consumer_tag=consumer_tag,
            _encoded=properties,
        )
        if not properties[0] & _HAS_HEADERS:
            self.__dict__.update(_WITHOUT_HEADERS if redelivered else _FRESH)

    @cached_property
    def properties(self) -> pika.BasicProperties:
        return decode_properties(self.__dict__["_encoded"])


@dataclass(frozen=True)
class Message(Generic[_P]):
    """What a handler gets: the payload, its envelope, and how it came."""

    payload: _P
    envelope: Envelope
    delivery: Delivery

    @property
    def message_id(self) -> str:
        """What to recognise a repeated message by."""
        return self.envelope.message_id

    @property
    def attempt(self) -> int:
        """1 at first. Counted across consumers, processes and restarts."""
        return self.delivery.failures + 1

    @property
    def consumer_tag(self) -> str:
        return self.delivery.consumer_tag

    @property
    def is_dead_letter(self) -> bool:
        """It died in, or was given up from, another queue than the one that it comes from now.

        A message that came back from one of its own retry queues is none, nor is one that an
        operator moved back to the queue in which it had died.
        """
        return self.delivery.died_in not in (None, self.delivery.queue)


def _count(headers: Mapping[str, Any], name: str) -> int:
    value = headers.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(0, value), _MAX_COUNT)

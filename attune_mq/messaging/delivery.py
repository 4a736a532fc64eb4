"""What the broker hands to a consumer, and what a handler gets of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import pika

from attune_mq.messaging.deaths import Death, deaths_of
from attune_mq.messaging.envelope import Envelope
from attune_mq.messaging.payload_model import Payload

FAILURES = "x-attune-attempt"
REDELIVERIES = "x-attune-redeliveries"
NOT_BEFORE = "x-attune-not-before"
REASON = "x-attune-reason"
QUEUE = "x-attune-queue"

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True)
class Delivery:
    """One delivery. ``channel`` is the channel that it came on: only there can it be settled."""

    body: bytes
    properties: pika.BasicProperties
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    queue: str
    consumer_tag: str
    channel: object = field(repr=False)

    @cached_property
    def headers(self) -> Mapping[str, Any]:
        return self.properties.headers or {}

    @property
    def failures(self) -> int:
        """How often handling it failed before, whoever tried."""
        return _count(self.headers, FAILURES)

    @property
    def redeliveries(self) -> int:
        """How often it was handed out unsettled before, this time included. Counted by us, since
        a classic queue says only "not the first time"."""
        return _count(self.headers, REDELIVERIES) + (1 if self.redelivered else 0)

    @property
    def counted_by_broker(self) -> bool:
        """Quorum queues count, and limit, what comes back."""
        return "x-delivery-count" in self.headers

    def hold_s(self) -> float:
        """How long it is to be held before it is tried again; an hour at most."""
        not_before_ms = _count(self.headers, NOT_BEFORE)
        return min(max(0.0, not_before_ms / 1000 - time.time()), 3_600.0) if not_before_ms else 0.0

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


@dataclass(frozen=True)
class Message(Generic[P]):
    """What a handler gets: the payload, its envelope, and how it came."""

    payload: P
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

        A message that came back from one of its own retry queues is none, nor is one that somebody
        moved back to the queue in which it had died.
        """
        return self.delivery.died_in not in (None, self.delivery.queue)


def _count(headers: Mapping[str, Any], name: str) -> int:
    value = headers.get(name)
    counts = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if counts and isinstance(value, int) else 0

"""Counting what happens: one event, one or two additions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric as Family

from attune_mq.errors import PublishRefused, Unroutable
from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.envelope import Envelope
from attune_mq.messaging.labels import LabelValues
from attune_mq.messaging.outgoing import Outcome as PublishOutcome, Outgoing, Receipt
from attune_mq.messaging.settlement import (
    Acknowledge,
    CountRedelivery,
    DeadLetter,
    Outcome,
    TryAgain,
    Unavailable,
)
from attune_mq.messaging.telemetry import Dropped, GivenBack, Settled, Telemetry
from attune_mq.metrics import table
from attune_mq.metrics.tallies import Counts, Durations, Labels, gauge

REASONS = ("attempts exhausted", "rejected", "unreadable", "unhandled", "redelivered")
"""Why a consumer gives a message up; see :mod:`attune_mq.messaging.settlement`."""
PUBLISHER = " publisher"
"""How the names of publishers' connections end."""
_REMEMBERED = 10_000
"""Labels are looked up once for each combination; strangers' types beyond that each time."""


class EventCounts(Telemetry):
    """Listens, and knows the families of what it counted."""

    def __init__(self, labels: LabelValues) -> None:
        self._labels = labels
        self._consumers: dict[str, Labels] = {}
        self._consumed_labels: dict[tuple[str, str | None], Labels] = {}
        self._published_labels: dict[tuple[str, str], Labels] = {}
        self._delivered = Counts(table.DELIVERED)
        self._redelivered = Counts(table.REDELIVERED)
        self._consumed = Counts(table.CONSUMED)
        self._retried = Counts(table.RETRIED)
        self._dead_lettered = Counts(table.DEAD_LETTERED)
        self._dropped = Counts(table.DROPPED)
        self._given_back = Counts(table.GIVEN_BACK)
        self._pauses = Counts(table.PAUSES)
        self._published = Counts(table.PUBLISHED)
        self._unroutable = Counts(table.UNROUTABLE)
        self._refused = Counts(table.REFUSED)
        self._unconfirmed = Counts(table.UNCONFIRMED)
        self._opened = Counts(table.CONNECTIONS_OPENED)
        self._lost = Counts(table.CONNECTIONS_LOST)
        self._handling = Durations(table.HANDLING)
        self._in_queue = Durations(table.IN_QUEUE)
        self._confirm = Durations(table.CONFIRM)
        self._blocked: dict[Labels, float] = {}

    def families(self) -> Iterator[Family]:
        for tally in vars(self).values():
            if isinstance(tally, Counts | Durations):
                yield tally.family()
        yield gauge(table.BLOCKED, list(self._blocked.items()))

    def expect_consumer(self, tag: str, types: Iterable[str], *, drops: bool) -> None:
        """Counts of a consumer begin at 0, not at the first event. ``drops``: its queue has no
        dead letter exchange."""
        given_up = self._dropped if drops else self._dead_lettered
        queue, label = self._labels.consumer(tag)
        for counts in (self._delivered, self._redelivered):
            counts.expect((queue, label))
        for name in types:
            labels = (queue, label, self._labels.message_type(name))
            self._consumed.expect(labels)
            self._retried.expect(labels)
            for reason in REASONS:
                given_up.expect((*labels, reason))
        self._lost.expect((label,))

    def expect_messages(self, exchange: str, message_type: str) -> None:
        labels = (self._labels.exchange(exchange), self._labels.message_type(message_type))
        for counts in (self._published, self._unroutable, self._refused, self._unconfirmed):
            counts.expect(labels)

    # The way of a message.

    def delivered(self, delivery: Delivery) -> None:
        labels = self._of_tag(delivery.consumer_tag)
        self._delivered.add(labels)
        if delivery.redelivered:
            self._redelivered.add(labels)

    def handled(
        self, delivery: Delivery, envelope: Envelope, outcome: Outcome, seconds: float
    ) -> None:
        labels = self._of_consumer(delivery, envelope.message_type)
        self._handling.observe(labels, seconds)
        if _is_first_attempt(delivery) and not isinstance(outcome, Unavailable):
            age_s = time.time() - seconds - envelope.timestamp.timestamp()
            self._in_queue.observe(labels, max(0.0, age_s))

    def settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None:
        labels = self._of_consumer(delivery, envelope.message_type if envelope else None)
        match how:
            case Acknowledge():
                self._consumed.add(labels)
            case TryAgain():
                self._retried.add(labels)
            case DeadLetter(reason):
                self._dead_lettered.add((*labels, reason))
            case Dropped(DeadLetter(reason)):
                self._dropped.add((*labels, reason))
            case GivenBack(reason):
                self._given_back.add((*labels[:2], reason))
            case CountRedelivery():  # it comes again at once, and is counted as delivered then
                pass

    def published(self, message: Outgoing, outcome: PublishOutcome, seconds: float) -> None:
        labels = self._of_message(message)
        match outcome:
            case Receipt():
                self._published.add(labels)
            case Unroutable():
                self._unroutable.add(labels)
            case PublishRefused():
                self._refused.add(labels)
            case _:
                self._unconfirmed.add(labels)
        self._confirm.observe(labels[:1], seconds)

    def paused(self, tag: str, dependency: str) -> None:
        self._pauses.add((*self._of_tag(tag), dependency))

    # Connections.

    def connection_opened(self, name: str) -> None:
        self._opened.add(self._of_connection(name))
        self._lost.expect(self._of_connection(name))
        if name.endswith(PUBLISHER):
            self._blocked[self._of_connection(name)] = 0

    def connection_lost(self, name: str, reason: str) -> None:
        labels = self._of_connection(name)
        self._lost.add(labels)
        if labels in self._blocked:  # the next one is told anew
            self._blocked[labels] = 0

    def connection_blocked(self, name: str, blocked: bool) -> None:
        self._blocked[self._of_connection(name)] = int(blocked)

    def _of_connection(self, name: str) -> Labels:
        """A consumer's is told by its tag, any other is a publisher's."""
        return (name if name.endswith(PUBLISHER) else self._labels.tag(name),)

    def _of_tag(self, registered: str) -> Labels:
        labels = self._consumers.get(registered)
        if labels is None:
            labels = self._consumers[registered] = self._labels.consumer(registered)
        return labels

    def _of_consumer(self, delivery: Delivery, message_type: str | None) -> Labels:
        key = (delivery.consumer_tag, message_type)
        labels = self._consumed_labels.get(key)
        if labels is None:
            labels = (*self._of_tag(delivery.consumer_tag), self._labels.message_type(message_type))
            if len(self._consumed_labels) < _REMEMBERED:
                self._consumed_labels[key] = labels
        return labels

    def _of_message(self, message: Outgoing) -> Labels:
        key = (message.exchange, message.message_type)
        labels = self._published_labels.get(key)
        if labels is None:
            exchange = self._labels.exchange(message.exchange)
            labels = (exchange, self._labels.message_type(message.message_type or None))
            if len(self._published_labels) < _REMEMBERED:
                self._published_labels[key] = labels
        return labels


def _is_first_attempt(delivery: Delivery) -> bool:
    """Later ones have waited for their retry, or in a dead letter queue: on purpose. Those that are
    held during a pause are not done with their first."""
    if delivery.redelivered:
        return False
    return not delivery.headers or not (delivery.failures or delivery.deaths)

"""Counting what happens: what every message causes is deferred, the rest is counted at once."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from prometheus_client.core import Metric as Family

from attune_mq.errors import PublishRefused, Unroutable
from attune_mq.message import settlement
from attune_mq.message.delivery import Delivery
from attune_mq.message.envelope import Envelope
from attune_mq.message.labels import LabelValues
from attune_mq.message.outgoing import Outcome as PublishOutcome, Outgoing, Receipt
from attune_mq.message.telemetry import Dropped, Requeued, Settled, Telemetry
from attune_mq.metrics import table
from attune_mq.metrics.counters import Counts, Deferred, Durations, Labels, gauge

REASONS = ("attempts exhausted", "rejected", "unreadable", "unhandled", "redelivered")
"""Why a consumer gives a message up; see :mod:`attune_mq.message.settlement`."""
PUBLISHER = " publisher"
"""How the names of publishers' connections end."""
_REMEMBERED = 10_000
"""Combinations of labels whose look-up is cached: strangers may invent types without end."""

_OUTCOMES = {
    Receipt: table.PUBLISHED,
    Unroutable: table.UNROUTABLE,
    PublishRefused: table.REFUSED,
}
"""Any other outcome is unconfirmed."""
_Handling = tuple[str, str, float, float | None]
"""Consumer's tag, message type, seconds in the handler, and in the queue before; ``None``: not the
first call, so that it does not count. Of plain tuples and numbers: of what waits here nothing keeps
the garbage collector busy."""


class EventCounts(Telemetry):
    """Listens, and knows the families of what it counted."""

    def __init__(self, labels: LabelValues) -> None:
        self._labels = labels
        cached = lru_cache(_REMEMBERED)
        self._of_tag = cached(labels.consumer)
        self._of_consumer = cached(self._consumer_labels)
        self._of_message = cached(self._message_labels)
        self._counts = {one: Counts(one) for one in table.METRICS if one.kind == "counter"}
        self._durations = {one: Durations(one) for one in table.METRICS if one.kind == "histogram"}
        self._blocked: dict[Labels, float] = {}
        self._deliveries = Deferred(self._count_deliveries)
        self._handlings = Deferred(self._count_handlings)
        self._acknowledged = Deferred(self._count_acknowledged)
        self._publications = Deferred(self._count_publications)

    def families(self) -> Iterator[Family]:
        for one in vars(self).values():
            if isinstance(one, Deferred):
                one.flush()
        yield from (one.family() for one in self._counts.values())
        yield from (one.family() for one in self._durations.values())
        yield gauge(table.BLOCKED, list(self._blocked.items()))

    def expect_consumer(self, tag: str, types: Iterable[str], *, drops: bool) -> None:
        """Counts of a consumer begin at 0, not at the first event. ``drops``: its queue has no
        dead letter exchange."""
        given_up = table.DROPPED if drops else table.DEAD_LETTERED
        queue, label = self._labels.consumer(tag)
        for metric in (table.DELIVERED, table.REDELIVERED):
            self._counts[metric].expect((queue, label))
        for name in types:
            labels = (queue, label, self._labels.message_type(name))
            self._counts[table.CONSUMED].expect(labels)
            self._counts[table.RETRIED].expect(labels)
            for reason in REASONS:
                self._counts[given_up].expect((*labels, reason))
        self._counts[table.CONNECTIONS_LOST].expect((label,))

    def expect_messages(self, exchange: str, message_type: str) -> None:
        labels = self._message_labels(exchange, message_type)
        for metric in (*_OUTCOMES.values(), table.UNCONFIRMED):
            self._counts[metric].expect(labels)

    # The way of a message.

    def delivered(self, delivery: Delivery) -> None:
        self._deliveries.add(delivery.consumer_tag)
        if delivery.redelivered:
            self._counts[table.REDELIVERED].add(self._of_tag(delivery.consumer_tag))

    def handled(
        self, delivery: Delivery, envelope: Envelope, outcome: settlement.Outcome, seconds: float
    ) -> None:
        waited_s = None
        if _is_first_attempt(delivery) and not isinstance(outcome, settlement.Unavailable):
            waited_s = max(0.0, time.time() - seconds - envelope.timestamp.timestamp())
        self._handlings.add((delivery.consumer_tag, envelope.message_type, seconds, waited_s))

    def settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None:
        message_type = envelope.message_type if envelope else None
        if isinstance(how, settlement.Acknowledge):
            self._acknowledged.add((delivery.consumer_tag, message_type))
            return
        labels = self._of_consumer(delivery.consumer_tag, message_type)
        match how:
            case settlement.TryAgain():
                self._counts[table.RETRIED].add(labels)
            case settlement.DeadLetter(reason):
                self._counts[table.DEAD_LETTERED].add((*labels, reason))
            case Dropped(settlement.DeadLetter(reason)):
                self._counts[table.DROPPED].add((*labels, reason))
            case Requeued(reason):
                self._counts[table.REQUEUED].add((*labels[:2], reason))
            case settlement.RepublishWithCount():  # it is delivered again at once, and counted
                pass

    def published(self, message: Outgoing, outcome: PublishOutcome, seconds: float) -> None:
        self._publications.add((message.exchange, message.message_type, type(outcome), seconds))

    def _count_deliveries(self, tags: list[str]) -> None:
        for tag, times in Counter(tags).items():
            self._counts[table.DELIVERED].add(self._of_tag(tag), times)

    def _count_acknowledged(self, observed: list[tuple[str, str | None]]) -> None:
        for (tag, message_type), times in Counter(observed).items():
            self._counts[table.CONSUMED].add(self._of_consumer(tag, message_type), times)

    def _count_handlings(self, observed: list[_Handling]) -> None:
        handled: defaultdict[Labels, list[float]] = defaultdict(list)
        waited: defaultdict[Labels, list[float]] = defaultdict(list)
        for tag, message_type, seconds, waited_s in observed:
            labels = self._of_consumer(tag, message_type)
            handled[labels].append(seconds)
            if waited_s is not None:
                waited[labels].append(waited_s)
        self._durations[table.HANDLING].observe_each(handled)
        self._durations[table.IN_QUEUE].observe_each(waited)

    def _count_publications(self, observed: list[tuple[str, str, type, float]]) -> None:
        waited: defaultdict[Labels, list[float]] = defaultdict(list)
        for exchange, message_type, outcome, seconds in observed:
            labels = self._of_message(exchange, message_type)
            self._counts[_OUTCOMES.get(outcome, table.UNCONFIRMED)].add(labels)
            waited[labels[:1]].append(seconds)
        self._durations[table.CONFIRM].observe_each(waited)

    def paused(self, tag: str, dependency: str) -> None:
        self._counts[table.PAUSES].add((*self._of_tag(tag), dependency))

    # Connections.

    def connection_opened(self, name: str) -> None:
        self._counts[table.CONNECTIONS_OPENED].add(self._of_connection(name))
        self._counts[table.CONNECTIONS_LOST].expect(self._of_connection(name))
        if name.endswith(PUBLISHER):
            self._blocked[self._of_connection(name)] = 0
            self._counts[table.UNEXPECTED_CONFIRMS].expect(self._of_connection(name))

    def connection_lost(self, name: str, reason: str) -> None:
        labels = self._of_connection(name)
        self._counts[table.CONNECTIONS_LOST].add(labels)
        if labels in self._blocked:  # the next one starts unblocked
            self._blocked[labels] = 0

    def connection_blocked(self, name: str, blocked: bool) -> None:
        self._blocked[self._of_connection(name)] = int(blocked)

    def unexpected_confirms(self, name: str, count: int) -> None:
        self._counts[table.UNEXPECTED_CONFIRMS].add(self._of_connection(name), count)

    def _of_connection(self, name: str) -> Labels:
        """Of a consumer its tag, of a publisher its name."""
        return (name if name.endswith(PUBLISHER) else self._labels.tag(name),)

    def _consumer_labels(self, registered: str, message_type: str | None) -> Labels:
        return (*self._of_tag(registered), self._labels.message_type(message_type))

    def _message_labels(self, exchange: str, message_type: str) -> Labels:
        return self._labels.exchange(exchange), self._labels.message_type(message_type or None)


def _is_first_attempt(delivery: Delivery) -> bool:
    """Later ones have waited for their retry, or in a dead letter queue: on purpose. Those that are
    held during a pause are not done with their first."""
    if delivery.redelivered:
        return False
    return not delivery.headers or not (delivery.failures or delivery.deaths)

"""Moving messages from one queue to another, each confirmed before its original is acknowledged.

They go in batches. When all copies of a batch are confirmed, the originals are acknowledged and a
record that closes the batch goes to the journal, both in one transaction. Whoever is killed before
leaves an open batch: its originals are back in their queue, and copies of them may be in another.

* *Out* of the old queue, which consumers live on: they may have the originals by now. So the copies
  do not count. The journal says which batches were opened; a copy of one that was not closed is
  passed over where it would go into the new queue.
* *Back* into the new queue, which consumers live on as well: they may have the copies by now. So
  the originals do not count. Each copy went to the witness too, by the same publish; an original
  of an open batch of which the witness has a copy is acknowledged and not published again.

Where the broker itself is killed with a batch on its way, queues, journal and witness may have lost
different parts of what was not confirmed, and of what was acknowledged. So what they say of an open
batch is worth nothing then: both originals and copies count, and that batch may be there twice. A
transient message in the journal, which no broker keeps over its end, tells that it was not.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pika

from attune_mq.errors import PublishRefused
from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.outgoing import Outcome, Outgoing, Receipt
from attune_mq.messaging.publisher import Publisher
from attune_mq.migration.copies import fingerprint, mark_of, put_back, set_aside
from attune_mq.migration.intake import Intake

BATCH = 250
PAUSE_S = 0.5
"""Between two attempts to publish what a queue had no room for."""
OPENED = "x-attune-batch-opened"
CLOSED = "x-attune-batch-closed"
UNBROKEN = "x-attune-broker-unbroken"


@dataclass(frozen=True)
class OutLane:
    """Out of the old queue, through ``exchange``."""

    exchange: str


@dataclass(frozen=True)
class BackLane:
    """Into the new queue, through ``exchange``, which leads to the witness as well, unless the new
    queue refuses what it has no room for."""

    exchange: str


Lane = OutLane | BackLane


@dataclass
class Past:
    """What killed migrations left. ``void``: batches whose copies do not count. ``witnessed``: how
    often the new queue was given which message of an open batch, by fingerprint; used up.
    ``uncertain``: open batches of which nothing is known, since the broker was ended meanwhile."""

    void: set[str] = field(default_factory=set)
    witnessed: Counter[str] = field(default_factory=Counter)
    uncertain: set[str] = field(default_factory=set)

    def has_passed(self, delivery: Delivery) -> bool:
        """Whether it is not to be put into the new queue."""
        mark = mark_of(delivery.headers)
        if mark is not None and mark.batch in self.void:
            return True
        if not delivery.redelivered or not self.witnessed:
            return False
        known = fingerprint(delivery)
        if not self.witnessed[known]:
            return False
        self.witnessed[known] -= 1
        return True


def read_past(connection: pika.BlockingConnection, journal: str, witness: str) -> Past:
    """Both queues keep what they have."""
    records = list(_headers_in(connection, journal))
    opened = {str(one[OPENED]) for one in records if OPENED in one}
    closed = {str(one[CLOSED]) for one in records if CLOSED in one}
    marks = [mark for one in _headers_in(connection, witness) if (mark := mark_of(one))]
    if not any(UNBROKEN in one for one in records):
        return Past(uncertain=(opened | {one.batch for one in marks}) - closed)
    return Past(
        opened - closed, Counter(one.fingerprint for one in marks if one.batch not in closed)
    )


def _headers_in(connection: pika.BlockingConnection, queue: str) -> Iterator[dict[Any, Any]]:
    channel = connection.channel()
    while True:
        method, properties, _ = channel.basic_get(queue)
        if method is None or properties is None:
            break
        yield dict(properties.headers or {})
    channel.close()


class Mover:
    """``patience_s``: how long a queue may have no room."""

    def __init__(
        self, publisher: Publisher, journal: str, past: Past, *, patience_s: float
    ) -> None:
        self._publisher = publisher
        self._journal = journal
        self._past = past
        self._patience_s = patience_s
        self.recognised = 0
        """Messages that an earlier run had moved before it was killed."""

    def begin(self) -> None:
        """Closes what is uncertain, for good, before it says that the broker was not ended."""
        for batch in self._past.uncertain:
            self._keep(self._record(CLOSED, batch))
        self._keep(self._record(UNBROKEN, "yes", is_transient=True))

    def move(self, intake: Intake, deliveries: Sequence[Delivery], lane: Lane) -> int:
        """Returns how many were moved. Raises :class:`~attune_mq.errors.PublishError`: then none
        of them is acknowledged."""
        if not deliveries:
            return 0
        batch = uuid.uuid4().hex
        match lane:
            case OutLane(exchange):
                fresh = deliveries
                opening = self._record(OPENED, batch)
                copies = [opening, *(set_aside(one, batch, exchange) for one in fresh)]
            case BackLane(exchange):
                fresh = [one for one in deliveries if not self._past.has_passed(one)]
                copies = [put_back(one, batch, exchange) for one in fresh]
        self._publish(copies, lane, batch, intake)
        intake.acknowledge(deliveries, self._record(CLOSED, batch))
        self.recognised += len(deliveries) - len(fresh)
        return len(fresh)

    def _publish(self, copies: Sequence[Outgoing], lane: Lane, batch: str, intake: Intake) -> None:
        """What a queue has no room for is tried again; the others are not."""
        deadline = time.monotonic() + self._patience_s
        while copies:
            outcomes = self._publisher.send(copies)
            _raise_hopeless(outcomes, is_late=time.monotonic() > deadline)
            copies = [
                one
                for one, outcome in zip(copies, outcomes, strict=True)
                if isinstance(outcome, PublishRefused)
            ]
            if copies:
                self._disbelieve_witness(lane, batch)
                intake.pause(PAUSE_S)

    def _disbelieve_witness(self, lane: Lane, batch: str) -> None:
        """It took what the new queue refused. Should we be killed now, what that did take is there
        twice; otherwise what it did not would be lost."""
        if isinstance(lane, BackLane):
            self._publisher.send([self._record(CLOSED, batch)])

    def _keep(self, record: Outgoing) -> None:
        _raise_hopeless(self._publisher.send([record]), is_late=True)

    def _record(self, what: str, value: str, *, is_transient: bool = False) -> Outgoing:
        properties = pika.BasicProperties(
            headers={what: value}, delivery_mode=1 if is_transient else 2
        )
        return Outgoing("", self._journal, b"", properties)


def _raise_hopeless(outcomes: Sequence[Outcome], *, is_late: bool) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Receipt) or (isinstance(outcome, PublishRefused) and not is_late):
            continue
        raise outcome

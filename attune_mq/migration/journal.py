"""What a migration writes down beside the queue, so that the next call knows what this one did.

The journal is a queue of records, messages without a body:

* *begun*: the first. A journal without it has lost records: a policy, or somebody, took them.
* *opened* and *closed*: of a batch. The record that closes one says by how many messages the queue
  ``moved`` changes, so that their sum is what has to be in it.
* *doubted*: of a batch of which nobody knows how much of it arrived, since a connection or a node
  of a cluster was lost meanwhile. Both its originals and its copies count.
* *unbroken*: transient, so that no broker keeps it over its end. Where it is missing, all batches
  that are not closed are doubted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pika

from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outgoing
from attune_mq.migration.copies import fingerprint, mark_of
from attune_mq.migration.scaffold import Scaffold

BEGUN = "x-attune-journal-begun"
OPENED = "x-attune-batch-opened"
CLOSED = "x-attune-batch-closed"
DOUBTED = "x-attune-batch-doubted"
CHANGE = "x-attune-moved-change"
UNBROKEN = "x-attune-broker-unbroken"


@dataclass
class Past:
    """What earlier runs left.

    ``aside``: how many messages have to be in ``moved``, the copies of open batches left out.
    ``void``: batches whose copies do not count. ``uncertain``: open batches of which nothing is
    known. ``copies``: how many of each of these are in ``moved``. ``witnessed``: how often the new
    queue was given which message of an open batch, by fingerprint; used up. ``is_whole``: whether
    the journal has its first record. ``is_unbroken``: whether the broker was not ended meanwhile.
    """

    is_whole: bool = True
    is_unbroken: bool = True
    aside: int = 0
    void: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)
    copies: Counter[str] = field(default_factory=Counter)
    witnessed: Counter[str] = field(default_factory=Counter)

    @property
    def stray(self) -> int:
        """Copies in ``moved`` that do not count."""
        return sum(self.copies[batch] for batch in self.void)

    def is_void(self, delivery: Delivery) -> bool:
        mark = mark_of(delivery.headers)
        return mark is not None and mark.batch in self.void

    def has_passed(self, delivery: Delivery) -> bool:
        """Whether it is not to be put into the new queue."""
        if self.is_void(delivery):
            return True
        if not delivery.redelivered or not self.witnessed:
            return False
        known = fingerprint(delivery)
        if not self.witnessed[known]:
            return False
        self.witnessed[known] -= 1
        return True


def read_past(connection: pika.BlockingConnection, scaffold: Scaffold) -> Past:
    """All queues keep what they have. ``moved`` is read only where a batch is open."""
    records = list(_headers_in(connection, scaffold.journal))
    opened = {str(one[OPENED]) for one in records if OPENED in one}
    doubted = {str(one[DOUBTED]) for one in records if DOUBTED in one}
    closed = {str(one[CLOSED]) for one in records if CLOSED in one}
    marks = [mark for one in _headers_in(connection, scaffold.witness) if (mark := mark_of(one))]
    is_unbroken = any(UNBROKEN in one for one in records)
    seen = opened | doubted | {one.batch for one in marks}
    uncertain = (seen if not is_unbroken else doubted) - closed
    void = opened - closed - uncertain
    return Past(
        is_whole=any(BEGUN in one for one in records),
        is_unbroken=is_unbroken,
        aside=sum(int(one.get(CHANGE, 0)) for one in records),
        void=void,
        uncertain=uncertain,
        copies=_copies(connection, scaffold.moved) if void or uncertain else Counter(),
        witnessed=Counter(one.fingerprint for one in marks if one.batch not in closed | uncertain),
    )


def record(
    journal: str, what: str, value: str, *, change: int = 0, is_transient: bool = False
) -> Outgoing:
    headers: dict[str, Any] = {what: value, CHANGE: change} if change else {what: value}
    properties = pika.BasicProperties(headers=headers, delivery_mode=1 if is_transient else 2)
    return Outgoing("", journal, b"", properties)


def _copies(connection: pika.BlockingConnection, moved: str) -> Counter[str]:
    marks = (mark_of(one) for one in _headers_in(connection, moved))
    return Counter(one.batch for one in marks if one)


def _headers_in(connection: pika.BlockingConnection, queue: str) -> Iterator[dict[Any, Any]]:
    channel = connection.channel()
    while True:
        method, properties, _ = channel.basic_get(queue)
        if method is None or properties is None:
            break
        yield dict(properties.headers or {})
    channel.close()

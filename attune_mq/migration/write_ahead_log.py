"""The write-ahead log of a migration: what the next call has to know if this one is interrupted.

The log is a queue of records, messages without a body:

* *begun*: the first. A log without it has lost records: to a policy, or by a purge.
* *opened* and *closed*: of a batch. The record that closes one says by how many messages the
  staging queue changes, so that their sum is what it has to hold.
* *uncertain*: a batch during which a connection or a node of a cluster was lost, so that it is not
  known which of its messages arrived. Both its originals and its copies count.
* *broker epoch*: transient, so it does not survive a broker restart. Where it is missing, all
  batches that are not closed are uncertain.

The headers are a format: an interrupted migration is continued by later versions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pika

from attune_mq.amqp.connection import Connection
from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outgoing
from attune_mq.migration.copies import Mark, fingerprint, mark_of
from attune_mq.migration.queue_reader import headers_in
from attune_mq.migration.temporary_topology import TemporaryNames

BEGUN = "x-attune-journal-begun"
OPENED = "x-attune-batch-opened"
CLOSED = "x-attune-batch-closed"
UNCERTAIN = "x-attune-batch-doubted"
CHANGE = "x-attune-moved-change"
BROKER_EPOCH = "x-attune-broker-unbroken"


@dataclass
class RecoveryState:
    """What earlier runs left.

    ``has_begun``: whether the log has its first record. ``same_broker_epoch``: whether the broker
    was not restarted since. ``staged``: how many messages the staging queue has to hold, without
    the copies of open batches. ``discarded``: batches whose copies do not count. ``uncertain``:
    batches of which both originals and copies count. ``copies``: how many of each of these are in
    the staging queue. ``mirrored``: how often the new queue was given which message of an open
    batch, by fingerprint; :meth:`is_moved` uses it up.
    """

    has_begun: bool = True
    same_broker_epoch: bool = True
    staged: int = 0
    discarded: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)
    copies: Counter[str] = field(default_factory=Counter)
    mirrored: Counter[str] = field(default_factory=Counter)

    @property
    def discarded_copies(self) -> int:
        """How many messages of the staging queue do not count."""
        return sum(self.copies[batch] for batch in self.discarded)

    def is_discarded(self, delivery: Delivery) -> bool:
        mark = mark_of(delivery.headers)
        return mark is not None and mark.batch in self.discarded

    def is_moved(self, delivery: Delivery) -> bool:
        """Whether it must not be put into the new queue."""
        if self.is_discarded(delivery):
            return True
        if not delivery.redelivered or not self.mirrored:
            return False
        known = fingerprint(delivery)
        if not self.mirrored[known]:
            return False
        self.mirrored[known] -= 1
        return True


def read_recovery_state(connection: Connection, names: TemporaryNames) -> RecoveryState:
    """All queues keep their messages. The staging queue is read only where a batch is open."""
    records = headers_in(connection, names.log_queue)
    opened, uncertain, closed = (
        {str(one[what]) for one in records if what in one} for what in (OPENED, UNCERTAIN, CLOSED)
    )
    mirrored = _marks_in(connection, names.mirror_queue)
    same_broker_epoch = any(BROKER_EPOCH in one for one in records)
    if not same_broker_epoch:
        uncertain |= opened | {one.batch for one in mirrored}
    uncertain -= closed
    discarded = opened - closed - uncertain
    staging = names.staging_queue
    staged = _marks_in(connection, staging) if discarded or uncertain else []
    return RecoveryState(
        has_begun=any(BEGUN in one for one in records),
        same_broker_epoch=same_broker_epoch,
        staged=sum(int(one.get(CHANGE, 0)) for one in records),
        discarded=discarded,
        uncertain=uncertain,
        copies=Counter(one.batch for one in staged),
        mirrored=Counter(
            one.fingerprint for one in mirrored if one.batch not in closed | uncertain
        ),
    )


def record(
    log_queue: str, what: str, value: str, *, change: int = 0, is_transient: bool = False
) -> Outgoing:
    headers: dict[str, Any] = {what: value, CHANGE: change} if change else {what: value}
    properties = pika.BasicProperties(headers=headers, delivery_mode=1 if is_transient else 2)
    return Outgoing("", log_queue, b"", properties)


def _marks_in(connection: Connection, queue: str) -> list[Mark]:
    return [mark for one in headers_in(connection, queue) if (mark := mark_of(one))]

"""Moving messages from one queue to another, each confirmed before its original is acknowledged.

They are moved in batches. When all copies of a batch are confirmed, and the broker counts them in
their queue, one transaction acknowledges the originals and publishes the record that closes the
batch. A process that is killed before leaves an open batch: its originals are requeued, and copies
of them may be in the other queue. Which of the two count depends on the phase:

* *Drain*, from the old queue to staging. Consumers of the old queue may have taken the originals,
  so the copies do not count. The log says which batches were opened; a copy of one that was not
  closed is skipped in the refill.
* *Refill*, from staging and parking to the new queue. Its consumers may have taken the copies, so
  the originals do not count. One publish routes each copy to the mirror queue too; an original of
  an open batch that has a copy there is acknowledged and not published again.

Where the broker or a node of a cluster stops with a batch in flight, the queues, the log and the
mirror may each have lost other unconfirmed publishes and acknowledgements. Records of an open batch
are unreliable then: both originals and copies count, and that batch may be duplicated. A process
that sees this happen writes it to the log (:mod:`.write_ahead_log`). A message could be lost where
a node of a cluster without the log stops, and this process is killed before it could write.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

from attune_mq.broker.inspection import QueueCounts
from attune_mq.errors import PublishRefused
from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outcome, Outgoing, Receipt
from attune_mq.migration import write_ahead_log as log
from attune_mq.migration.context import MigrationContext
from attune_mq.migration.copies import from_staging, to_staging
from attune_mq.migration.queue_reader import QueueReader
from attune_mq.migration.report import CountMismatch
from attune_mq.migration.temporary_topology import TemporaryNames
from attune_mq.publishing.publisher import Publisher

RETRY_EVERY_S = 0.5
"""Between two attempts to publish what a full queue refused."""
AGREES_WITHIN_S = 3.0
"""A deadline for the broker's count, which is behind while a quorum queue elects a leader."""
_COUNT_EVERY_S = 0.05


class Mover:
    """``recognised``: messages that an interrupted run had moved already. ``lost``: missing
    messages, where the caller accepts loss."""

    def __init__(
        self, context: MigrationContext, names: TemporaryNames, recovered: log.RecoveryState
    ) -> None:
        self._publisher = context.publisher
        self._counts = context.control.counts
        self._sleep = context.connection.sleep
        self._stall_s = context.timeouts.stall_s
        self._accept_loss = context.accept_loss
        self._names = names
        self._record = partial(log.record, names.log_queue)
        self._recovered = recovered
        self._staged = recovered.staged
        self._discarded = recovered.discarded_copies
        self._has_expiring = False
        self.recognised = 0
        self.lost = 0

    def begin(self) -> None:
        """Closes uncertain batches, before the log says that the broker was not restarted. Raises
        :class:`CountMismatch` where messages are missing already, unless that is accepted."""
        if not self._recovered.has_begun and not self._accept_loss:
            raise CountMismatch(
                self._names.queue, self._names.log_queue, expected=None, found=0,
                why="its first record is not there",
            )  # fmt: skip
        for batch in self._recovered.uncertain:
            self._adjust(batch, self._recovered.copies[batch])
        self._recount()
        if not self._recovered.has_begun:
            write(self._publisher, self._record(log.BEGUN, "yes"))
        write(self._publisher, self._record(log.BROKER_EPOCH, "yes", is_transient=True))

    def drain(
        self, reader: QueueReader, deliveries: Sequence[Delivery], *, is_deleted: bool = False
    ) -> int:
        """Moves messages of the old queue to staging; returns how many. ``is_deleted``: the queue
        is, and the originals with it, so that the copies count. Raises
        :class:`~attune_mq.errors.PublishError` and :class:`CountMismatch`: then none is
        acknowledged."""
        batch, count = uuid.uuid4().hex, len(deliveries)
        copies = [to_staging(one, batch, self._names.staging_exchange) for one in deliveries]
        with self._uncertain_on_error(batch) if is_deleted else nullcontext():
            outcomes = self._publisher.send([self._record(log.OPENED, batch), *copies])
            _raise_unless_sent(outcomes, may_be_refused=True)
            self.check_staged(count)  # what was refused is not there
        with self._uncertain_on_error(batch):  # acknowledged perhaps, and the log without it
            reader.acknowledge(deliveries, self._record(log.CLOSED, batch, change=count))
        self._staged += count
        return count

    def refill(
        self, reader: QueueReader, deliveries: Sequence[Delivery], *, keeps_all: bool
    ) -> int:
        """Moves messages of the staging or the parking queue to the new queue; returns how many.
        ``keeps_all``: that queue drops no message by a limit that is known. Raises as
        :meth:`drain`."""
        batch = uuid.uuid4().hex
        fresh = [one for one in deliveries if not self._recovered.is_moved(one)]
        discarded = sum(self._recovered.is_discarded(one) for one in deliveries)
        copies = [from_staging(one, batch, self._names.refill_exchange) for one in fresh]
        with self._uncertain_on_error(batch):  # the mirror may have what the new queue has not
            before = self._counts(self._names.queue)
            self._publish_to_new(copies, batch)
            self._check_arrived(before, copies, keeps_all=keeps_all)
        is_staged = reader.queue == self._names.staging_queue
        taken = len(deliveries) - discarded if is_staged else 0
        reader.acknowledge(deliveries, self._record(log.CLOSED, batch, change=-taken))
        self._staged -= taken
        self._discarded -= discarded
        self.recognised += len(deliveries) - len(fresh)
        return len(fresh)

    def check_staged(self, more: int = 0) -> None:
        """Raises :class:`CountMismatch` unless the staging queue holds what was put into it, and
        ``more``."""
        staging = self._names.staging_queue
        expected = self._staged + self._discarded + more
        counts = self._wait_for_count(staging, lambda now: now.messages == expected)
        found = None if counts is None else counts.messages
        if found != expected:
            raise CountMismatch(self._names.queue, staging, expected=expected, found=found)

    def _publish_to_new(self, copies: Sequence[Outgoing], batch: str) -> None:
        """Publishes again what a full queue refused, and nothing else. The mirror has what the new
        queue refused, so the batch is uncertain: if this process is killed now, messages that the
        new queue did take are duplicated; otherwise those that it did not would be lost."""
        deadline = time.monotonic() + self._stall_s
        while copies:
            outcomes = self._publisher.send(copies)
            _raise_unless_sent(outcomes, may_be_refused=time.monotonic() <= deadline)
            copies = [
                one
                for one, outcome in zip(copies, outcomes, strict=True)
                if isinstance(outcome, PublishRefused)
            ]
            if copies:
                self._mark_uncertain(batch)
                self._sleep(RETRY_EVERY_S)

    def _check_arrived(
        self, before: QueueCounts | None, copies: Sequence[Outgoing], *, keeps_all: bool
    ) -> None:
        """What consumers take cannot be counted, nor what expires, of these or of those before."""
        queue = self._names.queue
        expected = (0 if before is None else before.messages) + len(copies)
        self._has_expiring |= any(one.properties.expiration is not None for one in copies)
        was_consumed = before is not None and before.consumers > 0
        is_countable = keeps_all and not self._has_expiring and not was_consumed

        def agrees(now: QueueCounts) -> bool:
            return now.messages >= expected or now.consumers > 0 or not is_countable

        found = self._wait_for_count(queue, agrees)
        if found is None or before is None:
            raise CountMismatch(queue, queue, expected=expected, found=None)
        if agrees(found):
            return
        if not self._accept_loss:
            raise CountMismatch(
                queue, queue, expected=expected, found=found.messages, why="and it has no consumers"
            )
        self.lost += expected - found.messages

    def _wait_for_count(
        self, queue: str, agrees: Callable[[QueueCounts], bool]
    ) -> QueueCounts | None:
        """As soon as it agrees, or at the deadline. ``None``: there is no such queue."""
        deadline = time.monotonic() + AGREES_WITHIN_S
        while True:
            counts = self._counts(queue)
            if counts is None or agrees(counts) or time.monotonic() > deadline:
                return counts
            time.sleep(_COUNT_EVERY_S)

    def _recount(self) -> None:
        """A broker that restarted may have forgotten acknowledgements, so that it has more."""
        try:
            self.check_staged()
        except CountMismatch as mismatch:
            missing = (mismatch.expected or 0) - (mismatch.found or 0)
            is_requeued = missing < 0 and not self._recovered.same_broker_epoch
            if not is_requeued and not self._accept_loss:
                raise
            self._adjust("counted", -missing)
            self.lost += max(missing, 0)

    def _adjust(self, batch: str, change: int) -> None:
        write(self._publisher, self._record(log.CLOSED, batch, change=change))
        self._staged += change

    @contextmanager
    def _uncertain_on_error(self, batch: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._mark_uncertain(batch)
            raise

    def _mark_uncertain(self, batch: str) -> None:
        """Where the log cannot be reached, its node has stopped, and the broker epoch is over."""
        self._publisher.send([self._record(log.UNCERTAIN, batch)])


def write(publisher: Publisher, one: Outgoing) -> None:
    """A record; raises :class:`~attune_mq.errors.PublishError` unless it is confirmed."""
    _raise_unless_sent(publisher.send([one]), may_be_refused=False)


def _raise_unless_sent(outcomes: Sequence[Outcome], *, may_be_refused: bool) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Receipt) or (isinstance(outcome, PublishRefused) and may_be_refused):
            continue
        raise outcome

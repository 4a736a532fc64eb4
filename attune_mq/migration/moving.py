"""Moving messages from one queue to another, each confirmed before its original is acknowledged.

They go in batches. When all copies of a batch are confirmed, and the broker counts them where they
went, the originals are acknowledged and a record that closes the batch goes to the journal, both in
one transaction. Whoever is killed before leaves an open batch: its originals are back in their
queue, and copies of them may be in another.

* *Out* of the old queue, which consumers live on: they may have the originals by now. So the copies
  do not count. The journal says which batches were opened; a copy of one that was not closed is
  passed over where it would go into the new queue.
* *Back* into the new queue, which consumers live on as well: they may have the copies by now. So
  the originals do not count. Each copy went to the witness too, by the same publish; an original
  of an open batch of which the witness has a copy is acknowledged and not published again.

Where the broker itself, or a node of a cluster, ends with a batch on its way, queues, journal and
witness may have lost different parts of what was not confirmed, and of what was acknowledged. So
what they say of an open batch is worth nothing then: both originals and copies count, and that
batch may be there twice. Whoever sees it end writes that down in the journal (:mod:`.journal`).
A message could be lost where a node of a cluster that has not the journal ends, and this process is
killed before it could do so.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from attune_mq.broker.inspection import QueueCounts
from attune_mq.errors import PublishRefused
from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outcome, Outgoing, Receipt
from attune_mq.migration.conservation import CountMismatch, wait_for_count
from attune_mq.migration.copies import put_back, set_aside
from attune_mq.migration.intake import MOST_MESSAGES, Intake
from attune_mq.migration.journal import BEGUN, CLOSED, DOUBTED, OPENED, UNBROKEN, Past, record
from attune_mq.migration.scaffold import Scaffold
from attune_mq.publishing.publisher import Publisher

BATCH = MOST_MESSAGES
PAUSE_S = 0.5
"""Between two attempts to publish what a queue had no room for."""


@dataclass(frozen=True)
class OutLane:
    """Out of the old queue, through ``exchange``."""

    exchange: str
    is_last: bool = False
    """The old queue is deleted, and the originals with it, so that their copies count."""


@dataclass(frozen=True)
class BackLane:
    """Into the new queue, through ``exchange``, which leads to the witness as well, unless the new
    queue refuses what it has no room for. ``keeps_all``: the queue lets go of no message by a limit
    that is known."""

    exchange: str
    keeps_all: bool


Lane = OutLane | BackLane


class Mover:
    """``counts``: what the broker says of a queue now. ``patience_s``: how long a queue may have no
    room. ``accept_loss``: messages that are missing are taken for lost."""

    def __init__(
        self,
        publisher: Publisher,
        scaffold: Scaffold,
        past: Past,
        *,
        counts: Callable[[str], QueueCounts | None],
        patience_s: float,
        accept_loss: bool,
    ) -> None:
        self._publisher = publisher
        self._scaffold = scaffold
        self._past = past
        self._counts = counts
        self._patience_s = patience_s
        self._accept_loss = accept_loss
        self._has_mortal = False
        self._aside = past.aside
        self._stray = past.stray
        self.recognised = 0
        """Messages that an earlier run had moved before it was killed."""
        self.lost = 0
        """Messages that are missing, and were taken for lost."""

    def begin(self) -> None:
        """Closes what is uncertain, for good, before it says that the broker was not ended. Raises
        :class:`CountMismatch` where messages are missing already, unless that is accepted."""
        if not self._past.is_whole and not self._accept_loss:
            raise CountMismatch(
                self._scaffold.queue, self._scaffold.journal, expected=None, found=0,
                why="its first record is not there",
            )  # fmt: skip
        for batch in self._past.uncertain:
            self._adjust(batch, self._past.copies[batch])
        self._settle_count()
        if not self._past.is_whole:
            keep(self._publisher, self._record(BEGUN, "yes"))
        keep(self._publisher, self._record(UNBROKEN, "yes", is_transient=True))

    def check(self) -> None:
        """Raises :class:`CountMismatch` unless ``moved`` holds what was put aside."""
        self._check(0)

    def move(self, intake: Intake, deliveries: Sequence[Delivery], lane: Lane) -> int:
        """Returns how many were moved. Raises :class:`~attune_mq.errors.PublishError` and
        :class:`CountMismatch`: then none of them is acknowledged."""
        if not deliveries:
            return 0
        match lane:
            case OutLane():
                return self._move_out(intake, deliveries, lane)
            case BackLane():
                return self._move_back(intake, deliveries, lane)

    def _move_out(self, intake: Intake, deliveries: Sequence[Delivery], lane: OutLane) -> int:
        batch, count = uuid.uuid4().hex, len(deliveries)
        copies = [set_aside(one, batch, lane.exchange) for one in deliveries]
        with self._doubting(batch) if lane.is_last else nullcontext():
            outcomes = self._publisher.send([self._record(OPENED, batch), *copies])
            _raise_hopeless(outcomes, is_late=False)
            self._check(count)  # what was refused is not there
        with self._doubting(batch):  # they may be acknowledged, and the journal may not say so
            intake.acknowledge(deliveries, self._record(CLOSED, batch, change=count))
        self._aside += count
        return count

    def _move_back(self, intake: Intake, deliveries: Sequence[Delivery], lane: BackLane) -> int:
        batch = uuid.uuid4().hex
        fresh = [one for one in deliveries if not self._past.has_passed(one)]
        void = sum(self._past.is_void(one) for one in deliveries)
        copies = [put_back(one, batch, lane.exchange) for one in fresh]
        with self._doubting(batch):  # the witness may have what the new queue has not
            before = self._counts(self._scaffold.queue)
            self._publish_back(copies, intake, batch)
            self._check_arrived(before, copies, lane)
        taken = len(deliveries) - void if intake.queue == self._scaffold.moved else 0
        intake.acknowledge(deliveries, self._record(CLOSED, batch, change=-taken))
        self._aside -= taken
        self._stray -= void
        self.recognised += len(deliveries) - len(fresh)
        return len(fresh)

    def _publish_back(self, copies: Sequence[Outgoing], intake: Intake, batch: str) -> None:
        """What a queue has no room for is tried again; the others are not. The witness took what
        the new queue refused. Should we be killed now, what that did take is there twice; otherwise
        what it did not would be lost."""
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
                self._doubt(batch)
                intake.pause(PAUSE_S)

    # What has to be where.

    def _check(self, more: int) -> None:
        expected, moved = self._aside + self._stray + more, self._scaffold.moved
        counts = wait_for_count(lambda: self._counts(moved), lambda now: now.messages == expected)
        found = None if counts is None else counts.messages
        if found != expected:
            raise CountMismatch(self._scaffold.queue, moved, expected=expected, found=found)

    def _check_arrived(
        self, before: QueueCounts | None, copies: Sequence[Outgoing], lane: BackLane
    ) -> None:
        """What consumers take cannot be counted, nor what expires, of these or of those before."""
        queue = self._scaffold.queue
        expected = (0 if before is None else before.messages) + len(copies)
        self._has_mortal |= any(one.properties.expiration is not None for one in copies)
        was_consumed = before is not None and before.consumers > 0
        is_countable = lane.keeps_all and not self._has_mortal and not was_consumed

        def agrees(now: QueueCounts) -> bool:
            return now.messages >= expected or now.consumers > 0 or not is_countable

        found = wait_for_count(lambda: self._counts(queue), agrees)
        if found is None or before is None:
            raise CountMismatch(queue, queue, expected=expected, found=None)
        if agrees(found):
            return
        if not self._accept_loss:
            raise CountMismatch(
                queue, queue, expected=expected, found=found.messages, why="and it has no consumers"
            )
        self.lost += expected - found.messages

    def _settle_count(self) -> None:
        """A broker that was ended may have forgotten acknowledgements, so that it has more."""
        try:
            self._check(0)
        except CountMismatch as mismatch:
            missing = (mismatch.expected or 0) - (mismatch.found or 0)
            returned = missing < 0 and not self._past.is_unbroken
            if not returned and not self._accept_loss:
                raise
            self._adjust("counted", -missing)
            self.lost += max(missing, 0)

    def _adjust(self, batch: str, change: int) -> None:
        keep(self._publisher, self._record(CLOSED, batch, change=change))
        self._aside += change

    @contextmanager
    def _doubting(self, batch: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._doubt(batch)
            raise

    def _doubt(self, batch: str) -> None:
        """Where the journal cannot be reached, its node has ended, and it says that by itself."""
        self._publisher.send([self._record(DOUBTED, batch)])

    def _record(
        self, what: str, value: str, *, change: int = 0, is_transient: bool = False
    ) -> Outgoing:
        journal = self._scaffold.journal
        return record(journal, what, value, change=change, is_transient=is_transient)


def keep(publisher: Publisher, one: Outgoing) -> None:
    """A record; raises :class:`~attune_mq.errors.PublishError` unless it is confirmed."""
    _raise_hopeless(publisher.send([one]), is_late=True)


def _raise_hopeless(outcomes: Sequence[Outcome], *, is_late: bool) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Receipt) or (isinstance(outcome, PublishRefused) and not is_late):
            continue
        raise outcome

"""The migration of one queue.

Every step finds on the broker what is to be done, and can be repeated. So a migration that was
killed anywhere continues when it is called again: the temporary topology exists, and the queue is
the old one, or is missing, or is the new one. ``docs/migrating.md`` has the steps as a table.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from attune_mq.broker.replies import Different
from attune_mq.message.delivery import Delivery
from attune_mq.migration.context import MigrationContext
from attune_mq.migration.control import StepRefused
from attune_mq.migration.drain import GRACE_S, STRAIGHT, drain
from attune_mq.migration.mover import Mover, write
from attune_mq.migration.policies import Policies, is_quorum, keeps_all
from attune_mq.migration.queue_reader import HeldQueue, QueueReader, holding, reading
from attune_mq.migration.report import CountMismatch, MigratedQueue, NotMigrated, Step
from attune_mq.migration.survey import QueueJob
from attune_mq.migration.temporary_topology import TemporaryNames, TemporaryTopology
from attune_mq.migration.unacked import UnackedCounter
from attune_mq.migration.write_ahead_log import BEGUN, read_recovery_state, record
from attune_mq.topology.declaration import BindingDeclaration, QueueDeclaration

CANCEL_S = 2.0
"""Within which the broker cancels the consumer of a queue that was deleted."""
FORGET_S = 0.2
"""RabbitMQ 3.10 does not cancel the consumers of a quorum queue of whose name there is another
quorum queue at once, and does not deliver to them either (measured)."""
WRITTEN_S = 1.0
"""A quorum queue whose node is killed within half a second of its declaration is empty afterwards,
or useless, whatever it had confirmed (measured on 3.10, 4.0 and 4.3)."""
TOUCH_EVERY_S = 0.3
ROUNDS = 5
"""How often another program may declare the old queue again, or put a message into it at the last
moment."""


class QueueMigration:
    def __init__(self, job: QueueJob, context: MigrationContext) -> None:
        self._job = job
        self._context = context
        self._names = TemporaryNames(job.name)
        ingress = self._names.ingress
        self._from_ingress = BindingDeclaration(ingress, job.name, "queue", "")
        self._to_ingress = [
            replace(one, destination=ingress, destination_type="exchange") for one in job.bindings
        ]
        self._control = context.control
        self._temporary = TemporaryTopology(job, self._control)
        self._drained = self._parked = 0
        self._touched_at = 0.0
        self._unseen: set[str] = set()
        self._mover: Mover
        self._keeps_all: bool

    def run(self) -> MigratedQueue:
        """Raises :class:`NotMigrated`, :class:`CountMismatch`, and what the broker raises; then
        each message is in one of the queues, and a further call continues."""
        started_at = time.monotonic()
        policies = self._context.policies()
        if policies is None:
            self._unseen.add("policies")
        self._refuse_early(policies)
        try:
            self._run(policies)
        except CountMismatch:  # the queue works again, and the temporary queues are kept
            if self._exists:
                self._control.bind(self._from_ingress)
            raise
        return MigratedQueue(
            self._job.name,
            self._drained,
            self._parked,
            self._mover.recognised,
            time.monotonic() - started_at,
            lost=self._mover.lost,
            unseen=tuple(sorted(self._unseen)),
        )

    def _run(self, policies: Policies | None) -> None:
        self._prepare(policies)
        self._recover()
        try:
            self._replace()
        except NotMigrated:  # the old queue gets its messages back
            if self._exists:
                self._finish(keeps_all(self._job.current, policies))
            raise
        self._finish(keeps_all(self._job.wanted, policies))

    # The steps.

    def _refuse_early(self, policies: Policies | None) -> None:
        """Where it is known before any change that a policy would lose messages, or that what
        consumers hold cannot be counted."""
        self._temporary.refuse_unsafe(policies)
        counts = self._control.counts(self._job.name)
        is_old = self._job.current not in (None, self._job.wanted)
        if counts is not None and is_old and not self._job.unfinished:
            self._context.unacked(self._job.name, counts.consumers)

    def _prepare(self, policies: Policies | None) -> None:
        self._progress(Step.PREPARE)
        self._temporary.begin()
        declared = self._temporary.declare(policies, accept_loss=self._context.accept_loss)
        if declared:
            self._context.connection.sleep(WRITTEN_S)
        if not self._temporary.is_complete:
            write(self._context.publisher, record(self._names.log_queue, BEGUN, "yes"))
        elif self._names.parking_queue in declared:  # how much it held is not known
            self._unseen.add("parked")
        self._temporary.complete()

    def _recover(self) -> None:
        recovered = read_recovery_state(self._context.connection, self._names)
        if not recovered.has_begun:  # what the staging queue had to hold is not known
            self._unseen.add("journal")
        self._mover = Mover(self._context, self._names, recovered)
        self._mover.begin()

    def _replace(self) -> None:
        """A service without this library may declare the old queue again at the wrong moment."""
        old = self._job.current
        for _ in range(ROUNDS):
            is_old = old is not None and old != self._job.wanted
            with self._holding(self._job.retries if is_old else ()) as retries:
                if old is not None and is_old:
                    self._divert()
                    self._park()
                    self._drain_and_delete(old, retries)
                try:
                    self._declare_new()
                    return
                except StepRefused as refused:
                    if not isinstance(refused.reply, Different):
                        raise
                    old = old or self._job.wanted
        raise NotMigrated("another program declares it as it was, again and again")

    def _divert(self) -> None:
        self._progress(Step.DIVERT)
        self._control.bind(self._from_ingress)
        for binding in self._to_ingress:
            self._control.bind(binding)
        self._unbind_directly()

    def _park(self) -> None:
        self._progress(Step.PARK)
        self._control.unbind(self._from_ingress)

    def _drain_and_delete(self, old: QueueDeclaration, retries: Sequence[HeldQueue]) -> None:
        with reading(self._context.connection, old.name) as reader:
            for _ in range(ROUNDS):
                self._drain(reader, retries)
                self._check_all()
                if self._delete(old):
                    break
            else:
                raise NotMigrated(STRAIGHT)
            self._drain_last(old, reader)

    def _drain(self, reader: QueueReader, retries: Sequence[HeldQueue]) -> None:
        self._progress(Step.DRAIN)
        drain(
            reader,
            lambda taken: self._to_staging(reader, taken),
            self._control.counts,
            self._unacked,
            lambda: all(one.has_all(self._is_empty) for one in retries),
            is_shared=self._job.has_single_active_consumer,
            stall_s=self._context.timeouts.stall_s,
        )

    def _to_staging(self, reader: QueueReader, taken: Sequence[Delivery]) -> None:
        self._touch()
        if taken:
            self._drained += self._mover.drain(reader, taken)
            self._progress(Step.DRAIN, self._drained)

    def _unacked(self, consumers: int) -> UnackedCounter | None:
        counter = self._context.unacked(self._job.name, consumers)
        if counter is None:
            self._unseen.add("unacknowledged")
        return counter

    def _check_all(self) -> None:
        """That all messages are in their queues, and stay there, before anything is deleted."""
        self._temporary.refuse_unsafe(self._context.policies())
        self._temporary.check_exist()
        self._mover.check_staged()

    def _delete(self, old: QueueDeclaration) -> bool:
        """Whether it is deleted: with a message in it, it is not. What comes to it at the last
        moment is delivered to our consumer."""
        self._progress(Step.REPLACE)
        self._unbind_directly()  # a service that started meanwhile may have bound it
        if is_quorum(old):
            if not self._is_empty(old.name):
                return False
            self._control.delete_queue(old.name)
            return True
        try:
            self._control.delete_queue(old.name, if_empty=True)
        except StepRefused as refused:
            if "not empty" not in str(refused):
                raise
            return False
        return True

    def _drain_last(self, old: QueueDeclaration, reader: QueueReader) -> None:
        reader.wait_for_cancel(CANCEL_S)
        while last := reader.take(wait_s=0):
            self._drained += self._mover.drain(reader, last, is_deleted=True)
        if is_quorum(old):
            self._context.connection.sleep(FORGET_S)

    def _declare_new(self) -> None:
        """Bound to the ingress at once: if this process is killed now, messages flow as before."""
        self._control.declare(self._job.wanted)
        self._control.bind(self._from_ingress)
        self._context.connection.sleep(WRITTEN_S)

    def _finish(self, keeps_all: bool) -> None:
        """``keeps_all``: the queue drops no message by a limit that is known."""
        self._keeps_all = keeps_all
        self._refill()
        self._clean_up()

    def _refill(self) -> None:
        self._control.bind(self._from_ingress)
        refill = self._names.refill_exchange
        self._control.bind(BindingDeclaration(refill, self._job.name, "queue", ""))
        self._progress(Step.REFILL)
        staged = self._refill_from(self._names.staging_queue)
        self._parked += self._refill_from(self._names.parking_queue, before=staged)

    def _refill_from(self, source: str, before: int = 0) -> int:
        """Until it is empty: nothing comes to it any more."""
        self._temporary.check_exist(source)
        moved = 0
        with reading(self._context.connection, source) as reader:
            while True:
                taken = reader.take(wait_s=0.1)
                if taken:
                    moved += self._mover.refill(reader, taken, keeps_all=self._keeps_all)
                self._touch()
                if taken:
                    self._progress(Step.REFILL, before + moved)
                elif self._is_empty(source):
                    return moved
                elif reader.is_cancelled:
                    raise NotMigrated(f"the broker has cancelled our consumer of '{source}'")

    def _clean_up(self) -> None:
        self._progress(Step.CLEAN_UP)
        for binding in self._job.bindings:
            self._control.bind(binding)
        for binding in self._to_ingress:
            self._control.unbind(binding)
        self._context.connection.sleep(GRACE_S)
        for queue in (self._names.staging_queue, self._names.parking_queue):
            self._parked += self._refill_from(queue)
        self._temporary.check_exist(self._job.name)
        self._mover.check_staged()
        self._temporary.delete()

    # What the steps are made of.

    @property
    def _exists(self) -> bool:
        return self._control.counts(self._job.name) is not None

    def _unbind_directly(self) -> None:
        for binding in self._job.bindings:
            self._control.unbind(binding)

    def _touch(self) -> None:
        """A classic queue that is inspected does not expire, whatever an unseen policy says. That
        one was deleted is noticed at once."""
        now = time.monotonic()
        if now - self._touched_at < TOUCH_EVERY_S:
            return
        self._touched_at = now
        self._temporary.check_exist()

    def _holding(self, queues: Iterable[str]) -> AbstractContextManager[Sequence[HeldQueue]]:
        existing = [one for one in queues if self._control.counts(one) is not None]
        return holding(self._context.connection, existing)

    def _is_empty(self, queue: str) -> bool:
        """Of a queue that we consume: counts without a consumer are wrong."""
        counts = self._control.counts(queue)
        return counts is None or (counts.messages == 0 and counts.consumers > 0)

    def _progress(self, step: Step, moved: int = 0) -> None:
        self._context.progress(self._job.name, step, moved)

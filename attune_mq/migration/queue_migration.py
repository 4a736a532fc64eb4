"""One queue, from what it is to what it shall be.

Every step finds in the broker what is to be done, and can be repeated. So a migration that was
killed anywhere goes on when it is called again: the scaffold is there, and the queue is the old
one, or is not there, or is the new one. ``docs/migrating.md`` has the steps as a table.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pika
from pika import exceptions as pika_errors

from attune_mq.broker.replies import Different
from attune_mq.message.delivery import Delivery
from attune_mq.migration.conservation import CountMismatch
from attune_mq.migration.control import Control, StepRefused
from attune_mq.migration.emptying import GRACE_S, STRAIGHT, Emptying
from attune_mq.migration.held import Held
from attune_mq.migration.intake import Intake, taking_from
from attune_mq.migration.journal import BEGUN, read_past, record
from attune_mq.migration.moving import BackLane, Mover, OutLane, keep
from attune_mq.migration.policies import Policies, keeps_all
from attune_mq.migration.progress import Progress, Step
from attune_mq.migration.queue_job import MigratedQueue, NotMigrated, QueueJob, is_quorum
from attune_mq.migration.retries import HeldRetries
from attune_mq.migration.scaffold import Scaffold
from attune_mq.migration.temporary import TemporaryTopology
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.declarations import BindingDeclaration, QueueDeclaration

CANCEL_S = 2.0
"""Within which the broker tells a consumer that its queue is gone."""
FORGET_S = 0.2
"""RabbitMQ 3.10 does not cancel the consumers of a quorum queue of whose name there is another
quorum queue at once, and does not feed them either (measured)."""
WRITTEN_S = 1.0
"""A quorum queue whose node is killed within half a second of its declaration is empty afterwards,
or useless, whatever it had confirmed (measured on 3.10, 4.0 and 4.3)."""
TOUCH_EVERY_S = 0.3
ROUNDS = 5
"""How often somebody may bring the old queue back, or put a message into it at the last moment."""


class QueueMigration:
    """``held_by``: given how many other consumers the queue has, what tells what is held, and
    ``None`` where nobody tells. ``policies``: those in effect now, ``None`` where nobody tells.
    ``patience_s``: how long to wait for what does not end. ``accept_loss``: messages that are
    missing when it begins are taken for lost."""

    def __init__(
        self,
        job: QueueJob,
        connection: pika.BlockingConnection,
        publisher: Publisher,
        *,
        held_by: Callable[[int], Held | None],
        policies: Callable[[], Policies | None],
        patience_s: float,
        accept_loss: bool,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._job = job
        self._scaffold = Scaffold(job.name)
        self._connection = connection
        self._control = Control(connection)
        self._counts = self._control.counts
        self._temporary = TemporaryTopology(job, self._control)
        self._publisher = publisher
        self._held_by = held_by
        self._policies = policies
        self._patience_s = patience_s
        self._accept_loss = accept_loss
        self._on_progress = on_progress
        self._moved = self._parked = 0
        self._touched_at = 0.0
        self._unseen: set[str] = set()
        self._mover: Mover
        self._keeps_all = False  # of the queue that is there

    def run(self) -> MigratedQueue:
        """Raises :class:`NotMigrated`, :class:`CountMismatch`, and what the broker raises; then all
        messages that are there are in one of the queues, and a further call goes on."""
        started_at = time.monotonic()
        policies = self._policies()
        if policies is None:
            self._unseen.add("policies")
        self._refuse_early(policies)
        try:
            self._run(policies)
        except CountMismatch:  # so the queue works, and what is set aside stays there
            if self._counts(self._job.name) is not None:
                self._control.bind(self._on_ingress)
            raise
        return MigratedQueue(
            self._job.name,
            self._moved,
            self._parked,
            self._mover.recognised,
            time.monotonic() - started_at,
            lost=self._mover.lost,
            unseen=tuple(sorted(self._unseen)),
        )

    def _run(self, policies: Policies | None) -> None:
        self._prepare(policies)
        self._keeps_all = keeps_all(self._job.current, policies)
        past = read_past(self._connection, self._scaffold)
        if not past.is_whole:  # what had to be in ``moved`` is not known
            self._unseen.add("journal")
        self._mover = Mover(
            self._publisher,
            self._scaffold,
            past,
            counts=self._counts,
            patience_s=self._patience_s,
            accept_loss=self._accept_loss,
        )
        self._mover.begin()
        try:
            self._make_new()
            self._keeps_all = keeps_all(self._job.wanted, policies)
        except NotMigrated:  # so the old queue gets everything back
            if self._counts(self._job.name) is not None:
                self._fill()
                self._dismantle()
            raise
        self._fill()
        self._dismantle()

    # The steps.

    def _refuse_early(self, policies: Policies | None) -> None:
        """Where it is known before anything is changed that what consumers hold is not, or that a
        policy would cost messages."""
        self._temporary.refuse_disturbed(policies)
        counts = self._counts(self._job.name)
        is_old = self._job.current not in (None, self._job.wanted)
        if counts is not None and is_old and not self._job.unfinished:
            self._held_by(counts.consumers)

    def _prepare(self, policies: Policies | None) -> None:
        self._tell(Step.PREPARE)
        self._temporary.begin()
        made = self._temporary.declare(policies, accept_loss=self._accept_loss)
        if made:
            self._connection.sleep(WRITTEN_S)
        if not self._temporary.is_complete:
            keep(self._publisher, record(self._scaffold.journal, BEGUN, "yes"))
        elif self._scaffold.parked in made:  # nobody knows what was in it
            self._unseen.add("parked")
        self._temporary.complete()

    def _make_new(self) -> None:
        """A service that knows nothing of us may declare the old queue at the wrong moment."""
        old = self._job.current
        for _ in range(ROUNDS):
            is_old = old is not None and old != self._job.wanted
            with self._held_retries(self._job.retries if is_old else ()) as retries:
                if old is not None and is_old:
                    self._divert()
                    self._park()
                    self._empty_and_delete(old, retries)
                try:
                    self._declare_new()
                    return
                except StepRefused as refused:
                    if not isinstance(refused.reply, Different):
                        raise
                    old = old or self._job.wanted
        raise NotMigrated("another program declares it as it was, again and again")

    def _divert(self) -> None:
        self._tell(Step.DIVERT)
        self._control.bind(self._on_ingress)
        for binding in self._job.bindings:
            self._control.bind(self._by_ingress(binding))
        self._unbind_directly()

    def _park(self) -> None:
        self._tell(Step.PARK)
        self._control.unbind(self._on_ingress)

    def _empty_and_delete(self, old: QueueDeclaration, retries: HeldRetries) -> None:
        with taking_from(self._connection, old.name) as intake:
            for _ in range(ROUNDS):
                self._empty(intake, retries)
                self._check_all()
                if self._delete(old):
                    break
            else:
                raise NotMigrated(STRAIGHT)
            self._after_delete(old, intake)

    def _check_all(self) -> None:
        """That all is where it has to be, and stays there, before anything is deleted."""
        self._temporary.refuse_disturbed(self._policies())
        temporary = self._scaffold
        self._temporary.check_there(temporary.parked, temporary.journal, temporary.witness)
        self._mover.check()

    def _empty(self, intake: Intake, retries: HeldRetries) -> None:
        self._tell(Step.EMPTY)
        emptying = Emptying(
            self._move_out,
            self._counts,
            self._held_by_others,
            is_shared=self._job.has_single_active_consumer,
            patience_s=self._patience_s,
        )
        emptying.run(intake, retries)

    def _held_by_others(self, consumers: int) -> Held | None:
        held = self._held_by(consumers)
        if held is None:
            self._unseen.add("unacknowledged")
        return held

    def _move_out(self, intake: Intake, taken: Sequence[Delivery]) -> None:
        self._touch()
        if taken:
            self._moved += self._mover.move(intake, taken, self._out)
            self._tell(Step.EMPTY, self._moved)

    def _delete(self, old: QueueDeclaration) -> bool:
        """Whether it is gone: a queue with a message in it is not deleted. What comes to it in the
        last moment is given to us."""
        self._tell(Step.REPLACE)
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

    def _after_delete(self, old: QueueDeclaration, intake: Intake) -> None:
        intake.wait_for_cancel(CANCEL_S)
        while last := intake.take(wait_s=0):
            self._moved += self._mover.move(intake, last, replace(self._out, is_last=True))
        if is_quorum(old):
            intake.pause(FORGET_S)

    def _declare_new(self) -> None:
        """On the ingress at once: should we be killed now, all goes on as it was before."""
        self._control.declare(self._job.wanted)
        self._control.bind(self._on_ingress)
        self._connection.sleep(WRITTEN_S)

    def _fill(self) -> None:
        self._control.bind(self._on_ingress)
        into = self._scaffold.into_queue
        self._control.bind(BindingDeclaration(into, self._job.name, "queue", ""))
        self._tell(Step.FILL)
        filled = self._drain(self._scaffold.moved, 0)
        self._parked += self._drain(self._scaffold.parked, filled)

    def _drain(self, source: str, before: int) -> int:
        """Nothing comes to it any more."""
        self._temporary.check_there(source)
        moved = 0
        with taking_from(self._connection, source) as intake:
            while True:
                taken = intake.take(wait_s=0.1)
                moved += self._mover.move(intake, taken, self._back)
                self._touch()
                if taken:
                    self._tell(Step.FILL, before + moved)
                elif self._is_empty(source):
                    return moved
                elif intake.is_cancelled:
                    raise NotMigrated(f"the broker has ended our consumer of '{source}'")

    def _dismantle(self) -> None:
        self._tell(Step.DISMANTLE)
        for binding in self._job.bindings:
            self._control.bind(binding)
        for binding in self._job.bindings:
            self._control.unbind(self._by_ingress(binding))
        self._connection.sleep(GRACE_S)
        for queue in (self._scaffold.moved, self._scaffold.parked):
            self._parked += self._drain(queue, 0)
        self._temporary.check_there(self._job.name)
        self._mover.check()
        self._temporary.delete()

    # What the steps are made of.

    @property
    def _out(self) -> OutLane:
        return OutLane(self._scaffold.into_moved)

    @property
    def _back(self) -> BackLane:
        return BackLane(self._scaffold.into_queue, keeps_all=self._keeps_all)

    @property
    def _on_ingress(self) -> BindingDeclaration:
        return BindingDeclaration(self._scaffold.ingress, self._job.name, "queue", "")

    def _by_ingress(self, binding: BindingDeclaration) -> BindingDeclaration:
        return replace(binding, destination=self._scaffold.ingress, destination_type="exchange")

    def _touch(self) -> None:
        """A classic queue that is looked at does not expire, whatever a policy says that nobody
        sees. That one is gone is noticed at once."""
        now = time.monotonic()
        if now - self._touched_at < TOUCH_EVERY_S:
            return
        self._touched_at = now
        names = self._scaffold
        self._temporary.check_there(names.moved, names.parked, names.journal, names.witness)

    def _unbind_directly(self) -> None:
        for binding in self._job.bindings:
            self._control.unbind(binding)

    def _is_empty(self, queue: str) -> bool:
        """Of a queue that we consume: an answer that counts no consumer is none."""
        counts = self._counts(queue)
        return counts is None or (counts.messages == 0 and counts.consumers > 0)

    @contextlib.contextmanager
    def _held_retries(self, queues: Sequence[str]) -> Iterator[HeldRetries]:
        there = [queue for queue in queues if self._counts(queue) is not None]
        try:
            retries = HeldRetries(self._connection, there, self._is_empty)
        except pika_errors.ChannelClosedByBroker as error:
            raise NotMigrated(f"we may not consume a retry queue: {error.reply_text}") from error
        try:
            yield retries
        finally:
            retries.release()

    def _tell(self, step: Step, moved: int = 0) -> None:
        self._on_progress(Progress(self._job.name, step, moved))

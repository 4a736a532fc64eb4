"""One queue, from what it is to what it shall be.

Every step finds in the broker what is to be done, and can be repeated. So a migration that was
killed anywhere goes on when it is called again: the scaffold is there, and the queue is the old
one, or is not there, or is the new one. ``docs/migrating.md`` has the steps as a table.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pika
from pika import exceptions as pika_errors

from attune_mq.broker.inspection import QueueCounts
from attune_mq.broker.replies import Different
from attune_mq.messaging.publisher import Publisher
from attune_mq.migration.control import Control, StepRefused
from attune_mq.migration.held import Held
from attune_mq.migration.intake import Intake
from attune_mq.migration.moving import BATCH, BackLane, Mover, OutLane, read_past
from attune_mq.migration.progress import Progress, Step
from attune_mq.migration.queue_job import MigratedQueue, NotMigrated, QueueJob, is_quorum
from attune_mq.migration.scaffold import MARKER, Scaffold
from attune_mq.topology.declarations import BindingDeclaration, QueueDeclaration

GRACE_S = 0.5
"""For what is on its way inside the broker when its way is changed."""
CANCEL_S = 2.0
"""Within which the broker tells a consumer that its queue is gone."""
FORGET_S = 0.2
"""RabbitMQ 3.10 does not cancel the consumers of a quorum queue of whose name there is another
quorum queue at once, and does not feed them either (measured)."""
WRITTEN_S = 1.0
"""A quorum queue whose node is killed within half a second of its declaration is empty afterwards,
or useless, whatever it had confirmed (measured on 3.10, 4.0 and 4.3)."""
LULL_S = 30.0
"""For how long to wait for a moment in which nothing is published straight to the queue."""
ROUNDS = 5
"""How often somebody may bring the old queue back, or put a message into it at the last moment."""


class QueueMigration:
    """``held_by``: given how many other consumers the queue has, what tells what they hold, and
    ``None`` where that is nothing. ``patience_s``: how long to wait for what does not end."""

    def __init__(
        self,
        job: QueueJob,
        connection: pika.BlockingConnection,
        publisher: Publisher,
        *,
        held_by: Callable[[int], Held | None],
        patience_s: float,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._job = job
        self._scaffold = Scaffold(job.name)
        self._connection = connection
        self._control = Control(connection)
        self._publisher = publisher
        self._held_by = held_by
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._moved = self._parked = 0
        self._mover: Mover

    def run(self) -> MigratedQueue:
        """Raises :class:`NotMigrated`, and what the broker raises; then all messages are in one of
        the queues, and a further call goes on."""
        started_at = time.monotonic()
        self._refuse_early()
        self._prepare()
        journal, witness = self._scaffold.journal, self._scaffold.witness
        past = read_past(self._connection, journal, witness)
        self._mover = Mover(self._publisher, journal, past, patience_s=self._patience_s)
        self._mover.begin()
        try:
            self._make_new()
        except NotMigrated:  # so the old queue gets everything back
            if self._counts(self._job.name) is not None:
                self._fill()
                self._dismantle()
            raise
        self._fill()
        self._dismantle()
        seconds = time.monotonic() - started_at
        return MigratedQueue(
            self._job.name, self._moved, self._parked, self._mover.recognised, seconds
        )

    # The steps.

    def _prepare(self) -> None:
        self._tell(Step.PREPARE)
        scaffold = self._scaffold
        self._try_new_queue()
        self._mark()
        for exchange in scaffold.exchanges():
            self._control.declare(exchange)
        queues = scaffold.queues(self._job.wanted, replicated=self._job.is_replicated)
        missing = [queue for queue in queues if self._counts(queue.name) is None]
        for queue in missing:
            self._control.declare(queue)
        for binding in scaffold.bindings(witnessed=self._is_witnessed):
            self._control.bind(binding)
        if missing:
            self._connection.sleep(WRITTEN_S)

    def _refuse_early(self) -> None:
        """Where it is known before anything is changed that what consumers hold is not."""
        counts = self._counts(self._job.name)
        is_old = self._job.current not in (None, self._job.wanted)
        if counts is not None and is_old and not self._job.unfinished:
            self._held_by(counts.consumers)

    def _try_new_queue(self) -> None:
        """What the broker would not take is to be known before the old queue is gone."""
        trial = replace(self._job.wanted, name=self._scaffold.trial)
        self._control.declare(trial)
        self._control.delete_queue(trial.name)

    def _mark(self) -> None:
        """The broker deletes the mark with the last ingress, perhaps between these."""
        ingress = self._scaffold.exchanges()[0]
        self._control.declare(ingress)
        for attempt in range(ROUNDS):
            self._control.declare(MARKER)
            try:
                self._control.bind(BindingDeclaration(MARKER.name, ingress.name, "exchange", ""))
                return
            except StepRefused:
                if attempt == ROUNDS - 1:
                    raise

    def _make_new(self) -> None:
        """A service that knows nothing of us may declare the old queue at the wrong moment."""
        old = self._job.current
        for _ in range(ROUNDS):
            if old is not None and old != self._job.wanted:
                self._divert()
                self._park()
                self._empty_and_delete(old)
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

    def _empty_and_delete(self, old: QueueDeclaration) -> None:
        with self._intake(old.name) as intake:
            for _ in range(ROUNDS):
                self._empty(intake)
                if self._delete(old):
                    break
            else:
                raise NotMigrated(_STRAIGHT)
            self._after_delete(old, intake)

    def _empty(self, intake: Intake) -> None:
        """Until nothing is left, in the queue or with a consumer, and nothing comes any more. What
        is published to an exchange is parked; but retries come, and what is published straight to
        the queue. RabbitMQ confirms, and loses, what comes to a queue while it is being deleted.
        """
        self._tell(Step.EMPTY)
        backlog = self._waiting(intake.queue) + self._moved
        alone_since = quiet_since = time.monotonic()
        deadline = alone_since + self._patience_s
        held = self._held_by_others(intake.queue)
        while time.monotonic() < deadline:
            taken = intake.take(BATCH, wait_s=0.1)
            self._moved += self._mover.move(intake, taken, self._out)
            now = time.monotonic()
            if taken:
                self._tell(Step.EMPTY, self._moved)
                quiet_since = now
                if self._moved <= backlog:
                    deadline = now + self._patience_s
            if len(taken) == BATCH:  # others may have been given what we had no room for
                alone_since = now
                held = self._held_by_others(intake.queue)
            elif now - alone_since >= GRACE_S and (not held or held.are_none(now - alone_since)):
                held = None
                deadline = min(deadline, now + LULL_S)
                if now - quiet_since >= GRACE_S and not self._waiting(intake.queue):
                    return
        raise NotMigrated(str(held) if held else _STRAIGHT)

    def _held_by_others(self, queue: str) -> Held | None:
        counts = self._counts(queue)
        return self._held_by(0 if counts is None else counts.consumers - 1)

    def _delete(self, old: QueueDeclaration) -> bool:
        """Whether it is gone: a queue with a message in it is not deleted. What comes to it in the
        last moment is given to us."""
        self._tell(Step.REPLACE)
        self._unbind_directly()  # a service that started meanwhile may have bound it
        if is_quorum(old):
            if self._waiting(old.name):
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
        while last := intake.take(BATCH, wait_s=0):
            self._moved += self._mover.move(intake, last, self._out)
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
        moved = 0
        with self._intake(source) as intake:
            while True:
                taken = intake.take(BATCH, wait_s=0.1)
                moved += self._mover.move(intake, taken, self._back)
                self._tell(Step.FILL, before + moved)
                if not taken and not self._waiting(source):
                    return moved

    def _dismantle(self) -> None:
        self._tell(Step.DISMANTLE)
        for binding in self._job.bindings:
            self._control.bind(binding)
        for binding in self._job.bindings:
            self._control.unbind(self._by_ingress(binding))
        self._connection.sleep(GRACE_S)
        for queue in (self._scaffold.moved, self._scaffold.parked):
            if self._waiting(queue):
                self._parked += self._drain(queue, 0)
            self._control.delete_queue(queue)
        self._control.delete_queue(self._scaffold.witness)
        self._control.delete_queue(self._scaffold.journal)
        for exchange in reversed(self._scaffold.exchanges()):
            self._control.delete_exchange(exchange.name)

    # What the steps are made of.

    @property
    def _is_witnessed(self) -> bool:
        """A queue that refuses what it has no room for would make a liar of the witness."""
        overflow = str(self._job.wanted.arguments.get("x-overflow", ""))
        return not overflow.startswith("reject-publish")

    @property
    def _out(self) -> OutLane:
        return OutLane(self._scaffold.into_moved)

    @property
    def _back(self) -> BackLane:
        return BackLane(self._scaffold.into_queue)

    @property
    def _on_ingress(self) -> BindingDeclaration:
        return BindingDeclaration(self._scaffold.ingress, self._job.name, "queue", "")

    def _by_ingress(self, binding: BindingDeclaration) -> BindingDeclaration:
        return replace(binding, destination=self._scaffold.ingress, destination_type="exchange")

    def _unbind_directly(self) -> None:
        for binding in self._job.bindings:
            self._control.unbind(binding)

    def _counts(self, queue: str) -> QueueCounts | None:
        return self._control.counts(queue)

    def _waiting(self, queue: str) -> int:
        """Messages that are ready."""
        counts = self._counts(queue)
        return 0 if counts is None else counts.messages

    @contextlib.contextmanager
    def _intake(self, queue: str) -> Iterator[Intake]:
        try:
            intake = Intake(self._connection, queue, prefetch=2 * BATCH)
        except pika_errors.ChannelClosedByBroker as error:
            raise NotMigrated(f"we may not consume it: {error.reply_text}") from error
        try:
            yield intake
        finally:
            intake.close()

    def _tell(self, step: Step, moved: int = 0) -> None:
        self._on_progress(Progress(self._job.name, step, moved))


_STRAIGHT = (
    "messages are published straight to it, through the default exchange, and what comes while it "
    "is replaced would be lost: stop what publishes them, and call again"
)

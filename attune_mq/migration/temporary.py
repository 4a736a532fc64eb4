"""Putting up beside a queue what a migration needs, and taking it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attune_mq.migration.conservation import CountMismatch
from attune_mq.migration.control import Control, StepRefused
from attune_mq.migration.policies import Policies
from attune_mq.migration.queue_job import NotMigrated, QueueJob
from attune_mq.migration.scaffold import MARKER, Scaffold
from attune_mq.topology.declarations import BindingDeclaration, QueueDeclaration

_ATTEMPTS = 5


class TemporaryTopology:
    def __init__(self, job: QueueJob, control: Control) -> None:
        self._job = job
        self._scaffold = Scaffold(job.name)
        self._control = control

    def refuse_disturbed(self, policies: Policies | None) -> None:
        """Raises :class:`NotMigrated` where a policy would cost messages."""
        if policies is None:
            return
        why = [text for queue in self._queues(policies) for text in policies.disturbing(queue)]
        if self._job.current is not None:
            why += policies.tightened(self._job.current, self._job.wanted)
        if why:
            raise NotMigrated(
                f"messages would be lost by policy: {'; '.join(why)}. Change its pattern so that "
                f"it does not match, or delete it while this queue is migrated, and call again"
            )

    def begin(self) -> None:
        """What the broker would not take is to be known before the old queue is gone."""
        trial = replace(self._job.wanted, name=self._scaffold.trial)
        self._control.declare(trial)
        self._control.delete_queue(trial.name)
        self._mark()

    def declare(self, policies: Policies | None, *, accept_loss: bool) -> Sequence[str]:
        """All but the last. Returns which queues were made just now. Raises
        :class:`CountMismatch` where one is gone, with what was in it, unless that is accepted."""
        queues = self._queues(policies)
        missing = [queue for queue in queues if self._control.counts(queue.name) is None]
        if missing and self.is_complete and not accept_loss:
            raise self._gone(missing[0].name)
        for exchange in self._scaffold.exchanges()[:-1]:
            self._control.declare(exchange)
        for queue in missing:
            self._control.declare(queue)
        return [queue.name for queue in missing]

    @property
    def is_complete(self) -> bool:
        """Whether all of it was there once, and nobody has begun to take it down."""
        return self._control.has_exchange(self._scaffold.exchanges()[-1].name)

    def complete(self) -> None:
        self._control.declare(self._scaffold.exchanges()[-1])
        for binding in self._scaffold.bindings(witnessed=self._job.is_witnessed):
            self._control.bind(binding)

    def check_there(self, *queues: str) -> None:
        """Raises :class:`CountMismatch` where one is gone."""
        for queue in queues:
            if self._control.counts(queue) is None:
                raise self._gone(queue)

    def delete(self) -> None:
        *exchanges, last = self._scaffold.exchanges()
        self._control.delete_exchange(last.name)
        for queue in self._queues(None):
            self._control.delete_queue(queue.name)
        for exchange in reversed(exchanges):
            self._control.delete_exchange(exchange.name)

    def _queues(self, policies: Policies | None) -> Sequence[QueueDeclaration]:
        wanted = self._job.wanted
        deaths = None if policies is None else policies.dead_letter_arguments(wanted)
        return self._scaffold.queues(wanted, replicated=self._job.is_replicated, deaths=deaths)

    def _mark(self) -> None:
        """The broker deletes the mark with the last ingress, perhaps between these."""
        ingress = self._scaffold.exchanges()[0]
        self._control.declare(ingress)
        for attempt in range(_ATTEMPTS):
            self._control.declare(MARKER)
            try:
                self._control.bind(BindingDeclaration(MARKER.name, ingress.name, "exchange", ""))
                return
            except StepRefused:
                if attempt == _ATTEMPTS - 1:
                    raise

    def _gone(self, queue: str) -> CountMismatch:
        return CountMismatch(self._job.name, queue, expected=None, found=None)

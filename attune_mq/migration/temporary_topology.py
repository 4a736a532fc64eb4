"""What a migration declares on the broker beside a queue, and deletes in the end.

::

    sources -> ingress -> the queue                       while it is bound to the ingress
                       -> parking exchange and queue      while it is not (alternate exchange)

    staging exchange -> staging queue                     messages of the old queue
    refill exchange  -> the queue, mirror queue           messages for the new one

RabbitMQ delivers one copy to a queue however many bindings lead there, so the ingress can be put in
and taken out while messages flow. The exchanges are fanouts: a message keeps its routing key.

A policy applies to each queue whose name its pattern matches, and an argument cannot lift its
limit: the smaller one holds. So the names of the temporary queues do not contain that of the
migrated queue, which is what patterns match; what matches all names is looked for by
:mod:`.policies`.

The names on the broker stay as they are, since later versions continue an interrupted migration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from attune_mq.broker.observation import MIGRATION_MARK, ingress_name
from attune_mq.migration.control import Control, StepRefused
from attune_mq.migration.policies import DEATH_ARGUMENTS, Policies
from attune_mq.migration.report import CountMismatch, NotMigrated
from attune_mq.migration.survey import QueueJob
from attune_mq.topology.declaration import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.fields import MAX_NAME_BYTES

RETURNS = 1_000_000
"""The delivery limit of temporary quorum queues. RabbitMQ 4 defaults to 20, and -1 means something
else on 3.10."""
MIRRORED = 256
"""How many copies the mirror queue keeps: those of the last batches."""
MARKER = ExchangeDeclaration(MIGRATION_MARK, "fanout", auto_delete=True)
_ATTEMPTS = 5


class TemporaryNames:
    """Of all that is declared for the queue ``queue``. The ingress is declared first and deleted
    last: while it exists the migration is not over."""

    def __init__(self, queue: str) -> None:
        self.queue: Final = queue
        self.ingress: Final = ingress_name(queue)
        self.parking_exchange: Final = f"{self.ingress}.parking"
        self.staging_exchange: Final = f"{self.ingress}.into-moved"
        self.refill_exchange: Final = f"{self.ingress}.into-queue"
        prefix = f"{MIGRATION_MARK}.{hashlib.blake2b(queue.encode(), digest_size=8).hexdigest()}"
        self.parking_queue: Final = f"{prefix}.parked"
        self.staging_queue: Final = f"{prefix}.moved"
        self.mirror_queue: Final = f"{prefix}.witness"
        self.log_queue: Final = f"{prefix}.journal"
        self.trial_queue: Final = f"{prefix}.trial"
        self.lock_queue: Final = f"{prefix}.lock"

    @property
    def are_too_long(self) -> bool:
        """Whether the broker would refuse one of them."""
        return len(self.refill_exchange.encode()) > MAX_NAME_BYTES


class TemporaryTopology:
    """Of one job. The last exchange is declared after all queues and deleted before them: while it
    exists, so do they, unless another client deleted them."""

    def __init__(self, job: QueueJob, control: Control) -> None:
        self._job = job
        self._names = TemporaryNames(job.name)
        self._control = control
        names, fanout = self._names, "fanout"
        parks = {"alternate-exchange": names.parking_exchange}
        self._ingress = ExchangeDeclaration(names.ingress, fanout, arguments=parks)
        self._exchanges = (
            self._ingress,
            ExchangeDeclaration(names.parking_exchange, fanout),
            ExchangeDeclaration(names.refill_exchange, fanout),
        )
        self._last = ExchangeDeclaration(names.staging_exchange, fanout)

    def refuse_unsafe(self, policies: Policies | None) -> None:
        """Raises :class:`NotMigrated` where a policy would lose messages."""
        if policies is None:
            return
        why = [text for queue in self._queues(policies) for text in policies.unsafe(queue)]
        if self._job.current is not None:
            why += policies.tightened(self._job.current, self._job.wanted)
        if why:
            raise NotMigrated(
                f"messages would be lost by policy: {'; '.join(why)}. Change its pattern so that "
                f"it does not match, or delete it while this queue is migrated, and call again"
            )

    def begin(self) -> None:
        """What the broker refuses to declare has to be known before the old queue is deleted."""
        trial = replace(self._job.wanted, name=self._names.trial_queue)
        self._control.declare(trial)
        self._control.delete_queue(trial.name)
        self._mark()

    def declare(self, policies: Policies | None, *, accept_loss: bool) -> Collection[str]:
        """All but the last exchange. Returns which queues were declared just now. Raises
        :class:`CountMismatch` where one was deleted, unless that loss is accepted."""
        queues = self._queues(policies)
        missing = [queue for queue in queues if self._control.counts(queue.name) is None]
        if missing and self.is_complete and not accept_loss:
            raise self._gone(missing[0].name)
        for exchange in self._exchanges:
            self._control.declare(exchange)
        for queue in missing:
            self._control.declare(queue)
        return [queue.name for queue in missing]

    @property
    def is_complete(self) -> bool:
        """Whether all of it was declared once, and its deletion has not begun."""
        return self._control.has_exchange(self._last.name)

    def complete(self) -> None:
        names = self._names
        self._control.declare(self._last)
        self._bind(names.parking_exchange, names.parking_queue)
        self._bind(names.staging_exchange, names.staging_queue)
        if self._job.is_mirrored:
            self._bind(names.refill_exchange, names.mirror_queue)

    def check_exist(self, *queues: str) -> None:
        """These, or all of its own. Raises :class:`CountMismatch` where one does not."""
        names = self._names
        own = names.staging_queue, names.parking_queue, names.log_queue, names.mirror_queue
        for queue in queues or own:
            if self._control.counts(queue) is None:
                raise self._gone(queue)

    def delete(self) -> None:
        self._control.delete_exchange(self._last.name)
        for queue in self._queues(None):
            self._control.delete_queue(queue.name)
        for exchange in reversed(self._exchanges):
            self._control.delete_exchange(exchange.name)

    def _queues(self, policies: Policies | None) -> Sequence[QueueDeclaration]:
        """What expires in the parking queue dies as it would in the queue itself: by its dead
        letter arguments, or by those that policies give it, where they can be seen.

        A full queue, by a limit of a policy, refuses messages. Mirror and log drop the oldest,
        which is then noticed."""
        wanted, names = self._job.wanted, self._names
        kind: dict[str, Any] = {"x-queue-type": "classic"}
        if self._job.is_replicated:
            kind = {"x-queue-type": "quorum", "x-delivery-limit": RETURNS}
        own = {key: wanted.arguments[key] for key in DEATH_ARGUMENTS if key in wanted.arguments}
        dies: Mapping[str, Any] = own
        if policies is not None:
            dies = {**policies.dead_letter_arguments(wanted), **own} or self._no_dead_letters
        waits = kind | {"x-overflow": "reject-publish"}
        last = {"x-queue-type": "classic", "x-overflow": "drop-head", **self._no_dead_letters}
        return (
            QueueDeclaration(names.parking_queue, arguments={**waits, **dies}),
            QueueDeclaration(names.staging_queue, arguments=waits | self._no_dead_letters),
            QueueDeclaration(names.mirror_queue, arguments=last | {"x-max-length": MIRRORED}),
            QueueDeclaration(names.log_queue, arguments=last),
        )

    @property
    def _no_dead_letters(self) -> dict[str, Any]:
        """Dead letters go to a queue that does not exist, whatever a policy says."""
        return dict(zip(DEATH_ARGUMENTS, ("", f"{self._names.ingress}.nowhere"), strict=True))

    def _mark(self) -> None:
        """The broker deletes the marker with the last ingress, perhaps between these."""
        self._control.declare(self._ingress)
        for attempt in range(_ATTEMPTS):
            self._control.declare(MARKER)
            try:
                self._bind(MARKER.name, self._ingress.name, "exchange")
                return
            except StepRefused:
                if attempt == _ATTEMPTS - 1:
                    raise

    def _bind(self, source: str, destination: str, kind: str = "queue") -> None:
        self._control.bind(BindingDeclaration(source, destination, kind, ""))

    def _gone(self, queue: str) -> CountMismatch:
        return CountMismatch(self._job.name, queue, expected=None, found=None)

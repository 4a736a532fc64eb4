"""What a migration puts up on the broker beside a queue, and takes down in the end.

::

    sources -> ingress -> the queue                            while it is on the ingress
                       -> parking -> parked                    while it is not (alternate exchange)

    into-moved -> moved                                        what is taken out of the old queue
    into-queue -> the queue, witness                           what goes into the new one

RabbitMQ delivers one copy to a queue however many ways lead there, so the ingress can be put in
and taken out while messages flow. The exchanges are fanouts: a message keeps its routing key.

A policy holds for each queue whose name its pattern matches, and a limit of it cannot be lifted by
an argument: of the two the smaller holds. So the name of a queue here does not have that of the
migrated queue in it, which is what patterns ask for; and what matches all names is looked for by
:mod:`.policies`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attune_mq.broker.observation import MIGRATION_MARK, ingress_name
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.fields import MAX_NAME_BYTES

RETURNS = 1_000_000
"""How often a message of a quorum queue of ours may come back. RabbitMQ 4 would say 20, and -1
means something else on 3.10."""
WITNESSED = 256
"""How many copies the witness keeps: those of the last batches."""
DEATH_ARGUMENTS = ("x-dead-letter-exchange", "x-dead-letter-routing-key")


@dataclass(frozen=True)
class Scaffold:
    """The names, for the queue ``queue``."""

    queue: str

    @property
    def ingress(self) -> str:
        """Made first, deleted last: while it is there the migration is not over."""
        return ingress_name(self.queue)

    @property
    def _queues(self) -> str:
        """How the names of its queues begin."""
        digest = hashlib.blake2b(self.queue.encode(), digest_size=8)
        return f"{MIGRATION_MARK}.{digest.hexdigest()}"

    @property
    def parking(self) -> str:
        return f"{self.ingress}.parking"

    @property
    def parked(self) -> str:
        return f"{self._queues}.parked"

    @property
    def moved(self) -> str:
        return f"{self._queues}.moved"

    @property
    def witness(self) -> str:
        return f"{self._queues}.witness"

    @property
    def is_too_long(self) -> bool:
        """Whether the broker would not take one of the names."""
        return len(self.into_queue.encode()) > MAX_NAME_BYTES

    @property
    def journal(self) -> str:
        return f"{self._queues}.journal"

    @property
    def into_moved(self) -> str:
        return f"{self.ingress}.into-moved"

    @property
    def into_queue(self) -> str:
        return f"{self.ingress}.into-queue"

    @property
    def trial(self) -> str:
        return f"{self._queues}.trial"

    @property
    def lock(self) -> str:
        return f"{self._queues}.lock"

    def exchanges(self) -> tuple[ExchangeDeclaration, ...]:
        """The ingress is the first. Its mark goes by itself. The last is made after all queues, and
        goes before them: while it is there, so are they, unless somebody else deleted them."""
        parks = {"alternate-exchange": self.parking}
        fanouts = (self.parking, self.into_queue, self.into_moved)
        return (
            ExchangeDeclaration(self.ingress, "fanout", arguments=parks),
            *(ExchangeDeclaration(name, "fanout") for name in fanouts),
        )

    def queues(
        self, wanted: QueueDeclaration, *, replicated: bool, deaths: Mapping[str, Any] | None
    ) -> tuple[QueueDeclaration, ...]:
        """``replicated``: the old queue or the new one is. What expires by a time of its own while
        it is parked dies as it would in the queue itself: by ``deaths``, the dead letter arguments
        that policies give it; ``None`` where they cannot be seen.

        What has no room for a message, by a limit of a policy, refuses it. The others let go of the
        oldest; that it is gone is then known.
        """
        kind: dict[str, Any] = {"x-queue-type": "classic"}
        if replicated:
            kind = {"x-queue-type": "quorum", "x-delivery-limit": RETURNS}
        own = {key: wanted.arguments[key] for key in DEATH_ARGUMENTS if key in wanted.arguments}
        dies = own if deaths is None else ({**deaths, **own} or self._nowhere)
        waits = kind | {"x-overflow": "reject-publish"}
        last = {"x-queue-type": "classic", "x-overflow": "drop-head", **self._nowhere}
        return (
            QueueDeclaration(self.parked, arguments=waits | dies),
            QueueDeclaration(self.moved, arguments=waits | self._nowhere),
            QueueDeclaration(self.witness, arguments=last | {"x-max-length": WITNESSED}),
            QueueDeclaration(self.journal, arguments=last),
        )

    @property
    def _nowhere(self) -> dict[str, Any]:
        """For what a witness lets go of: to no queue, whatever a policy says."""
        return dict(zip(DEATH_ARGUMENTS, ("", f"{self.ingress}.nowhere"), strict=True))

    def bindings(self, *, witnessed: bool) -> tuple[BindingDeclaration, ...]:
        """Within the scaffold. Those of the queue come and go. ``witnessed``: what goes into the
        new queue is."""
        ways = [(self.parking, self.parked), (self.into_moved, self.moved)]
        if witnessed:
            ways.append((self.into_queue, self.witness))
        return tuple(BindingDeclaration(source, queue, "queue", "") for source, queue in ways)


def stage_name(exchange: str) -> str:
    """What stands in for an exchange until the new one is complete."""
    return f"{ingress_name(exchange)}.stage"


MARKER = ExchangeDeclaration(MIGRATION_MARK, "fanout", auto_delete=True)

"""What is to be done about one queue, and what was."""

from __future__ import annotations

from dataclasses import dataclass

from attune_mq.errors import InfrastructureError
from attune_mq.topology.declarations import BindingDeclaration, QueueDeclaration
from attune_mq.topology.equivalence import Difference


@dataclass(frozen=True)
class MigratedQueue:
    """``moved``: messages taken out of the old queue, in this run. ``parked``: what was published
    meanwhile. Both are in the new queue behind what was published since it is there.
    ``recognised``: messages that an earlier run had moved before it was killed."""

    queue: str
    moved: int
    parked: int
    recognised: int
    seconds: float


class NotMigrated(InfrastructureError):
    """The queue is as it was, or a further call goes on. The text says why."""


@dataclass(frozen=True)
class QueueJob:
    """``current`` is ``None`` where the queue is not there: somebody was killed just then.
    ``bindings``: all that lead to the queue, or did."""

    wanted: QueueDeclaration
    current: QueueDeclaration | None
    bindings: tuple[BindingDeclaration, ...]
    differences: tuple[Difference, ...] = ()
    unfinished: bool = False

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def is_replicated(self) -> bool:
        return is_quorum(self.wanted) or (self.current is not None and is_quorum(self.current))


def is_quorum(queue: QueueDeclaration) -> bool:
    return queue.arguments.get("x-queue-type") == "quorum"

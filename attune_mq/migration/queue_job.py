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
    ``recognised``: messages that an earlier run had moved before it was killed. ``lost``: messages
    that were missing, which the caller took for lost. ``unseen``: what could not be checked."""

    queue: str
    moved: int
    parked: int
    recognised: int
    seconds: float
    lost: int = 0
    unseen: tuple[str, ...] = ()


class NotMigrated(InfrastructureError):
    """The queue is as it was, or a further call goes on. The text says why."""


@dataclass(frozen=True)
class QueueJob:
    """``current`` is ``None`` where the queue is not there: somebody was killed just then.
    ``bindings``: all that lead to the queue, or did. ``retries``: the queues that dead-letter
    straight to it."""

    wanted: QueueDeclaration
    current: QueueDeclaration | None
    bindings: tuple[BindingDeclaration, ...]
    retries: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    unfinished: bool = False

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def is_replicated(self) -> bool:
        return is_quorum(self.wanted) or (self.current is not None and is_quorum(self.current))

    @property
    def is_witnessed(self) -> bool:
        """A queue that refuses what it has no room for would invalidate the witness."""
        overflow = str(self.wanted.arguments.get("x-overflow", ""))
        return not overflow.startswith("reject-publish")

    @property
    def has_single_active_consumer(self) -> bool:
        return self.current is not None and bool(
            self.current.arguments.get("x-single-active-consumer")
        )


def is_quorum(queue: QueueDeclaration) -> bool:
    return queue.arguments.get("x-queue-type") == "quorum"

"""What is to be migrated: one queue or exchange each, as it is and as it shall be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.equivalence import Difference

Declared = ExchangeDeclaration | QueueDeclaration
D = TypeVar("D", ExchangeDeclaration, QueueDeclaration)


@dataclass(frozen=True)
class _Job(Generic[D]):
    """``current``: ``None`` where it does not exist. ``unfinished``: an earlier migration of it was
    interrupted. ``bindings``: all that lead to it, or did; of an exchange also those from it."""

    wanted: D
    current: D | None
    differences: tuple[Difference, ...]
    unfinished: bool
    bindings: tuple[BindingDeclaration, ...] = ()

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def needs_migration(self) -> bool:
        return bool(self.differences) or self.unfinished

    @property
    def is_replaced(self) -> bool:
        """Whether it is as it shall be, so that an earlier run was interrupted after that."""
        return self.current is not None and not self.differences


@dataclass(frozen=True)
class ExchangeJob(_Job[ExchangeDeclaration]):
    pass


@dataclass(frozen=True)
class QueueJob(_Job[QueueDeclaration]):
    """``retries``: the queues that dead-letter straight to it."""

    retries: tuple[str, ...] = ()

    @property
    def is_replicated(self) -> bool:
        return is_quorum(self.wanted) or (self.current is not None and is_quorum(self.current))

    @property
    def is_mirrored(self) -> bool:
        """A queue that refuses what it has no room for would invalidate the mirror queue."""
        return not refuses_when_full(self.wanted)

    @property
    def has_single_active_consumer(self) -> bool:
        return self.current is not None and bool(
            self.current.arguments.get("x-single-active-consumer")
        )


Job = ExchangeJob | QueueJob


def is_quorum(queue: QueueDeclaration) -> bool:
    return queue.arguments.get("x-queue-type") == "quorum"


def refuses_when_full(queue: QueueDeclaration) -> bool:
    return str(queue.arguments.get("x-overflow", "")).startswith("reject-publish")

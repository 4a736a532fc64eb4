"""What is to be migrated, and what was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from attune_mq.migration.exchange_migration import MigratedExchange
from attune_mq.migration.queue_job import MigratedQueue
from attune_mq.topology.equivalence import Difference

Migrated = MigratedExchange | MigratedQueue


@dataclass(frozen=True)
class Planned:
    """What is to be done about one queue or exchange. ``unfinished``: it was begun before, and goes
    on. ``kind`` is ``exchange`` or ``queue``. ``messages``, ``consumers``: of a queue, now."""

    kind: str
    name: str
    differences: tuple[Difference, ...]
    unfinished: bool
    messages: int = 0
    consumers: int = 0


@dataclass(frozen=True)
class Skipped:
    """``differs``: it is not as the topology says, and stays so."""

    kind: str
    name: str
    why: str
    differs: bool = True


@dataclass(frozen=True)
class Migration:
    """``planned`` is what was to be done before anything was; each of it is in ``migrated`` or in
    ``skipped`` afterwards, unless it was a dry run. ``skipped`` also holds what nothing can be done
    about, and what was asked for by name and needs nothing."""

    planned: tuple[Planned, ...]
    migrated: tuple[Migrated, ...]
    skipped: tuple[Skipped, ...]

    @classmethod
    def of(cls, planned: Iterable[Planned], outcomes: Sequence[Migrated | Skipped]) -> Self:
        migrated = tuple(one for one in outcomes if not isinstance(one, Skipped))
        skipped = tuple(one for one in outcomes if isinstance(one, Skipped))
        return cls(tuple(planned), migrated, skipped)

    @property
    def has_differences(self) -> bool:
        """Whether something is known to differ still."""
        return any(one.differs for one in self.skipped)

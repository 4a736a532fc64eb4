"""What a migration is to do, how far it is, what it did, and why it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from attune_mq.errors import InfrastructureError
from attune_mq.topology.equivalence import Difference


class Step(Enum):
    """The steps of a migration, in order. An exchange has PREPARE, REPLACE and CLEAN_UP."""

    PREPARE = "creating the temporary topology"
    DIVERT = "routing new messages through the ingress exchange"
    PARK = "parking new messages"
    DRAIN = "draining the old queue"
    REPLACE = "replacing it"
    REFILL = "filling the new queue"
    CLEAN_UP = "deleting the temporary topology"


class Progress(NamedTuple):
    """``name``: of the queue or exchange. ``moved``: messages moved so far in this step."""

    name: str
    step: Step
    moved: int = 0


@dataclass(frozen=True)
class Planned:
    """What is to be done about one queue or exchange. ``kind``: ``exchange`` or ``queue``.
    ``unfinished``: an earlier migration of it was interrupted, and is continued. ``messages``,
    ``consumers``: of a queue, now."""

    kind: str
    name: str
    differences: tuple[Difference, ...]
    unfinished: bool
    messages: int = 0
    consumers: int = 0


@dataclass(frozen=True)
class MigratedQueue:
    """``moved``: messages drained from the old queue, in this run. ``parked``: messages published
    meanwhile. In the new queue both stand behind what was published since its declaration.
    ``recognised``: messages that an interrupted run had moved already. ``lost``: missing messages,
    where ``accept_loss`` was given. ``unseen``: what could not be checked."""

    queue: str
    moved: int
    parked: int
    recognised: int
    seconds: float
    lost: int = 0
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class MigratedExchange:
    exchange: str
    seconds: float


Migrated = MigratedExchange | MigratedQueue


@dataclass(frozen=True)
class Skipped:
    """``differs``: it is not as the topology says, and stays so."""

    kind: str
    name: str
    why: str
    differs: bool = True


@dataclass(frozen=True)
class Migration:
    """``planned``: the plan before anything was changed; each entry is in ``migrated`` or in
    ``skipped`` afterwards, unless it was a dry run. ``skipped`` also holds what cannot be migrated,
    and what was named explicitly and needs no migration."""

    planned: tuple[Planned, ...]
    migrated: tuple[Migrated, ...]
    skipped: tuple[Skipped, ...]

    @property
    def has_differences(self) -> bool:
        """Whether something is known to differ still."""
        return any(one.differs for one in self.skipped)


class NotMigrated(InfrastructureError):
    """The queue is as it was, or a further call continues. The text says why."""


class CountMismatch(InfrastructureError):
    """A queue of a migration does not hold what was put into it: the migration has stopped.

    No temporary queue was deleted, and the old queue was not, unless messages that came to it at
    the last moment are missing. Nothing is reported as migrated, nor by a further call.
    ``queue``: which is migrated. ``where``: the queue that was counted. ``expected``: how many
    messages it had to hold, ``None`` where that is no longer known. ``found``: how many it holds,
    ``None`` where the queue does not exist.
    """

    def __init__(
        self, queue: str, where: str, *, expected: int | None, found: int | None, why: str = ""
    ) -> None:
        self.queue, self.where = queue, where
        self.expected, self.found = expected, found
        held = "what was put into it" if expected is None else f"{expected} messages"
        holds = "the queue is gone" if found is None else f"{found}"
        super().__init__(
            f"migration of queue '{queue}' stopped: queue '{where}': expected {held}, found "
            f"{holds}{f' ({why})' if why else ''}. The temporary queues are kept. Look for a "
            f"policy or operator policy that applies to it, for what consumed or purged it, and "
            f"for its dead letters. To continue with what is left, and accept the loss of the "
            f"rest: `attune-mq migrate {queue} --accept-loss`"
        )

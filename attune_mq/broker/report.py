"""What a set-up found and did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attune_mq.errors import InfrastructureError
from attune_mq.topology.declarations import Declaration
from attune_mq.topology.source import Where


@dataclass(frozen=True)
class Created:
    declaration: Declaration
    where: Where


@dataclass(frozen=True)
class Unchanged:
    declaration: Declaration
    where: Where


@dataclass(frozen=True)
class Conflict:
    """It exists and is different. Nothing was changed."""

    declaration: Declaration
    where: Where
    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.declaration.kind} '{self.declaration.name}': expected "
            f"{self.field} {self.expected}, the broker has {self.found}; RabbitMQ cannot change "
            f"it in place"
        )


@dataclass(frozen=True)
class Refused:
    """We may not declare it. ``exists`` is ``None`` where AMQP cannot tell (bindings)."""

    declaration: Declaration
    where: Where
    permission: str
    detail: str
    exists: bool | None

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.declaration.kind} '{self.declaration.name}': the broker refuses "
            f"to declare it, {self.permission} permission is missing ({self.detail})"
        )


@dataclass(frozen=True)
class Missing:
    """It is not there, and was not made."""

    declaration: Declaration
    where: Where
    detail: str

    def __str__(self) -> str:
        kind, name = self.declaration.kind, self.declaration.name
        return f"{self.where}: {kind} '{name}' does not exist: {self.detail}"


Outcome = Created | Unchanged | Conflict | Refused | Missing


@dataclass(frozen=True)
class SetupReport:
    """The outcome for each object of the topology, in the order in which they were asked for.

    AMQP cannot list bindings: a binding counts as created when one of its ends was created in
    the same run, and otherwise as unchanged, though it may have been made just now.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def created(self) -> tuple[Created, ...]:
        return tuple(one for one in self.outcomes if isinstance(one, Created))

    @property
    def unchanged(self) -> tuple[Unchanged, ...]:
        return tuple(one for one in self.outcomes if isinstance(one, Unchanged))

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return tuple(one for one in self.outcomes if isinstance(one, Conflict))

    @property
    def refused(self) -> tuple[Refused, ...]:
        return tuple(one for one in self.outcomes if isinstance(one, Refused))

    @property
    def missing(self) -> tuple[Missing | Refused, ...]:
        """What is needed and not there."""
        return tuple(self._missing())

    def _missing(self) -> Iterator[Missing | Refused]:
        for one in self.outcomes:
            if isinstance(one, Missing) or (isinstance(one, Refused) and one.exists is False):
                yield one


class MissingInfrastructure(InfrastructureError):
    """Something that is needed does not exist and could not, or was not to, be made."""

    def __init__(self, report: SetupReport) -> None:
        self.report = report
        super().__init__("\n".join(str(one) for one in report.missing))


class ConflictingInfrastructure(InfrastructureError):
    """Something exists with other properties, and the caller asked to fail on that."""

    def __init__(self, report: SetupReport) -> None:
        self.report = report
        super().__init__("\n".join(str(one) for one in report.conflicts))

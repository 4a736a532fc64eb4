"""What a set-up found and did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from attune_mq.errors import InfrastructureError
from attune_mq.topology.declarations import Declaration
from attune_mq.topology.source import Where

Why = Literal["amqp", "refused"]
"""Why something is not known: AMQP cannot tell, or the user may not look."""


@dataclass(frozen=True)
class Created:
    """It was not there when the broker was asked, and is there since it was declared. A binding:
    the HTTP API did not list it, or one of its ends was created in the same run. Another process
    that made it in between is not told apart."""

    declaration: Declaration
    where: Where


@dataclass(frozen=True)
class Ensured:
    """It is there: the broker agreed to it. Whether it was there before cannot be told."""

    declaration: Declaration
    where: Where


@dataclass(frozen=True)
class Unchanged:
    """It was there, and all that the file says of it was compared and is equal."""

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
    """We may not declare it. ``exists`` is ``None`` where that cannot be told: of a binding, and of
    what the broker does not let us look at."""

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
class Invalid:
    """The broker takes no such object; ``detail`` are its own words. It was not made."""

    declaration: Declaration
    where: Where
    detail: str

    def __str__(self) -> str:
        kind, name = self.declaration.kind, self.declaration.name
        return f"{self.where}: {kind} '{name}': the broker does not take it: {self.detail}"


@dataclass(frozen=True)
class Unknown:
    """The source cannot see whether it is there, or whether it is equal. ``detail`` says which, to
    people; ``why`` to programs."""

    declaration: Declaration
    where: Where
    detail: str
    why: Why = "amqp"


@dataclass(frozen=True)
class Missing:
    """It is not there, and was not made. Of a binding: one of its ends is not there."""

    declaration: Declaration
    where: Where
    detail: str

    def __str__(self) -> str:
        kind, name = self.declaration.kind, self.declaration.name
        return f"{self.where}: {kind} '{name}' does not exist: {self.detail}"


Outcome = Created | Ensured | Unchanged | Conflict | Refused | Invalid | Missing | Unknown

Kind = TypeVar("Kind", bound=Outcome)


@dataclass(frozen=True)
class SetupReport:
    """One outcome for each object of the topology, in the order in which they were asked for.

    AMQP cannot list bindings: one that the broker agreed to is ``ensured``, unless one of its ends
    was created in the same run. Nor does a broker compare all arguments: what it has beside those
    that it compares is ``unknown`` of an object that was there.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def created(self) -> tuple[Created, ...]:
        return self._all(Created)

    @property
    def ensured(self) -> tuple[Ensured, ...]:
        return self._all(Ensured)

    @property
    def unchanged(self) -> tuple[Unchanged, ...]:
        return self._all(Unchanged)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return self._all(Conflict)

    @property
    def refused(self) -> tuple[Refused, ...]:
        return self._all(Refused)

    @property
    def invalid(self) -> tuple[Invalid, ...]:
        return self._all(Invalid)

    @property
    def missing(self) -> tuple[Missing, ...]:
        return self._all(Missing)

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        return self._all(Unknown)

    @property
    def absent(self) -> tuple[Missing | Invalid | Refused, ...]:
        """What is not there, or, of exchanges and queues, is not known to be and was refused."""
        return tuple(
            one
            for one in self.outcomes
            if isinstance(one, Missing | Invalid)
            or (isinstance(one, Refused) and _may_be_absent(one))
        )

    def _all(self, kind: type[Kind]) -> tuple[Kind, ...]:
        return tuple(one for one in self.outcomes if isinstance(one, kind))


def _may_be_absent(refused: Refused) -> bool:
    return refused.exists is not True and refused.declaration.kind != "binding"


class MissingInfrastructure(InfrastructureError):
    """Something that is needed does not exist and could not, or was not to, be made."""

    def __init__(self, report: SetupReport) -> None:
        self.report = report
        super().__init__("\n".join(str(one) for one in report.absent))


class ConflictingInfrastructure(InfrastructureError):
    """Something exists with other properties, and the caller asked to fail on that."""

    def __init__(self, report: SetupReport) -> None:
        self.report = report
        super().__init__("\n".join(str(one) for one in report.conflicts))

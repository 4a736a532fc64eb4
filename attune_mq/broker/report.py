"""What becomes, or became, of each object of a topology: of a plan, a check and a set-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from attune_mq.broker.observation import Why
from attune_mq.errors import InfrastructureError
from attune_mq.topology.declaration import Declaration
from attune_mq.topology.source import Where


@dataclass(frozen=True)
class _Outcome:
    """``where``: in the topology file."""

    declaration: Declaration
    where: Where

    def __str__(self) -> str:
        return f"{self.where}: {self.declaration.kind} '{self.declaration.name}'"


@dataclass(frozen=True)
class _Difference(_Outcome):
    field: str
    expected: str
    found: str


class Created(_Outcome):
    """It was not there when the broker was asked, and is there since it was declared. A binding:
    the HTTP API did not list it, or one of its ends was created in the same run. Another process
    that made it in between is not told apart."""


class Ensured(_Outcome):
    """It is there: the broker agreed to it. Whether it was there before is unknown."""


class Unchanged(_Outcome):
    """It was there, and all that the file says of it was compared and is equal."""


class Conflict(_Difference):
    """It exists and is different. Nothing was changed."""

    def __str__(self) -> str:
        return (
            f"{super().__str__()}: expected {self.field} {self.expected}, the broker has "
            f"{self.found}; RabbitMQ cannot change it in place"
        )


class Ignored(_Difference):
    """It is there, without an argument that the file gives it or with another value, and the
    broker will not say so: it does not know this argument for this type, and ignores it."""


@dataclass(frozen=True)
class Refused(_Outcome):
    """We may not declare it. ``exists`` is ``None`` where that is unknown: of a binding, and of
    what the broker does not let us look at."""

    permission: str
    detail: str
    exists: bool | None

    def __str__(self) -> str:
        return (
            f"{super().__str__()}: the broker refuses to declare it, {self.permission} permission "
            f"is missing ({self.detail})"
        )


@dataclass(frozen=True)
class Invalid(_Outcome):
    """The broker takes no such object; ``detail`` are its own words. It was not made."""

    detail: str

    def __str__(self) -> str:
        return f"{super().__str__()}: the broker does not take it: {self.detail}"


@dataclass(frozen=True)
class Unknown(_Outcome):
    """The source cannot see whether it is there, or whether it is equal. ``detail`` says which, to
    people; ``why`` to programs."""

    detail: str
    why: Why = "amqp"


class Create(_Outcome):
    """It is not there, so set-up declares it. Whether the broker takes it shows only then."""


@dataclass(frozen=True)
class Missing(_Outcome):
    """It is not there, and was not made. Of a binding: one of its ends is not there."""

    detail: str

    def __str__(self) -> str:
        return f"{super().__str__()} does not exist: {self.detail}"


@dataclass(frozen=True)
class Extra:
    """It is there and the file does not have it. Set-up lets it be."""

    declaration: Declaration


Outcome = Created | Ensured | Unchanged | Conflict | Refused | Invalid | Missing | Unknown
"""Of a set-up."""
Step = Create | Unchanged | Conflict | Ignored | Unknown
"""Of a plan."""

Kind = TypeVar("Kind", bound=Outcome | Step | Extra)


class _Report(Protocol):
    @property
    def outcomes(self) -> Sequence[Outcome | Step | Extra]: ...


class OfKind(Generic[Kind]):
    """An attribute of a report: those of its ``outcomes`` that are of one kind, in their order."""

    def __init__(self, kind: type[Kind]) -> None:
        self._kind = kind

    def __get__(self, report: _Report, owner: object = None) -> tuple[Kind, ...]:
        return tuple(one for one in report.outcomes if isinstance(one, self._kind))


@dataclass(frozen=True)
class SetupReport:
    """One outcome for each object of the topology, in the order in which they were asked for.

    AMQP cannot list bindings: one that the broker agreed to is ``ensured``, unless one of its ends
    was created in the same run. Nor does a broker compare all arguments: what it has beside those
    that it compares is ``unknown`` of an object that was there.
    """

    outcomes: tuple[Outcome, ...]

    created = OfKind(Created)
    ensured = OfKind(Ensured)
    unchanged = OfKind(Unchanged)
    conflicts = OfKind(Conflict)
    refused = OfKind(Refused)
    invalid = OfKind(Invalid)
    missing = OfKind(Missing)
    unknown = OfKind(Unknown)

    @property
    def absent(self) -> tuple[Missing | Invalid | Refused, ...]:
        """What is not there, or, of exchanges and queues, is not known to be and was refused."""
        return tuple(
            one
            for one in self.outcomes
            if isinstance(one, Missing | Invalid)
            or (isinstance(one, Refused) and not one.exists and one.declaration.kind != "binding")
        )


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

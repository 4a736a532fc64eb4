"""The exit codes of every command line of the project, and which error is which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.broker.report import SetupReport, Unknown

OK = 0
FOUND = 1
WRONG_INPUT = 2
UNREACHABLE = 3
REFUSED = 4
CONFLICT = 5
INTERRUPTED = 130


def answer_code(*, conflicts: object, refused: object, found: object) -> int:
    """Of what a command saw on the broker. The first that holds counts: a conflict hides behind
    nothing, since nothing but a migration mends it; then a refusal, which hides what else is wrong;
    then anything that was found. What could not be asked at all is an error, not an answer."""
    if conflicts:
        return CONFLICT
    if refused:
        return REFUSED
    return FOUND if found else OK


def setup_code(report: SetupReport) -> int:
    """Of a set-up, whether it raised or not."""
    refused = [*report.refused, *may_not_look(report.unknown)]
    return answer_code(conflicts=report.conflicts, refused=refused, found=report.absent)


def may_not_look(unknown: Iterable[Unknown]) -> list[Unknown]:
    """What is unknown for want of a permission, not because AMQP cannot tell."""
    return [one for one in unknown if one.why == "refused"]


def exit_code(error: BaseException) -> int:
    """The exit code of an error of ours; of what led to it, where that says more."""
    from attune_mq.broker.report import ConflictingInfrastructure, MissingInfrastructure
    from attune_mq.errors import (
        BrokerUnavailable,
        DependencyUnavailable,
        PermissionRefused,
        PublishError,
    )

    if isinstance(error, BrokerUnavailable | DependencyUnavailable):
        return UNREACHABLE
    if isinstance(error, PermissionRefused):
        return REFUSED
    if isinstance(error, ConflictingInfrastructure | MissingInfrastructure):
        return setup_code(error.report)
    if isinstance(error, PublishError):
        return exit_code(error.__cause__) if error.__cause__ else FOUND
    return WRONG_INPUT

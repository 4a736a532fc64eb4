"""Exit codes of the command lines, and the code of each error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attune_mq import errors

if TYPE_CHECKING:
    from attune_mq.broker.report import SetupReport, Unknown

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_INVALID_INPUT = 2
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
EXIT_CONFLICT = 5
EXIT_INTERRUPTED = 130


def comparison_code(*, conflicts: object, refused: object, differs: object) -> int:
    """The code of a comparison with the broker. A conflict takes precedence, since only a migration
    resolves it; then a refusal, behind which more may be wrong; then any other difference."""
    if conflicts:
        return EXIT_CONFLICT
    if refused:
        return EXIT_REFUSED
    return EXIT_FINDINGS if differs else EXIT_OK


def setup_code(report: SetupReport) -> int:
    """The code of a set-up, whether it raised or not."""
    refused = [*report.refused, *not_permitted(report.unknown)]
    return comparison_code(conflicts=report.conflicts, refused=refused, differs=report.absent)


def not_permitted(unknown: Iterable[Unknown]) -> list[Unknown]:
    """Those unknown for lack of a permission, not by AMQP's limits."""
    return [one for one in unknown if one.why == "refused"]


def exit_code(error: BaseException) -> int:
    """The exit code of an error of this library; a :class:`~attune_mq.errors.PublishError` has that
    of its cause."""
    from attune_mq.broker.report import ConflictingInfrastructure, MissingInfrastructure

    match error:
        case errors.BrokerUnavailable() | errors.DependencyUnavailable():
            return EXIT_UNREACHABLE
        case errors.PermissionRefused():
            return EXIT_REFUSED
        case ConflictingInfrastructure() | MissingInfrastructure():
            return setup_code(error.report)
        case errors.PublishError():
            return exit_code(error.__cause__) if error.__cause__ else EXIT_FINDINGS
    return EXIT_INVALID_INPUT

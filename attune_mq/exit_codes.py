"""The exit codes of every command line of the project, and which error is which."""

from __future__ import annotations

OK = 0
FOUND = 1
WRONG_INPUT = 2
UNREACHABLE = 3
REFUSED = 4
CONFLICT = 5
INTERRUPTED = 130


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
    if isinstance(error, ConflictingInfrastructure):
        return CONFLICT
    if isinstance(error, MissingInfrastructure):
        return REFUSED if error.report.refused else FOUND
    if isinstance(error, PublishError):
        return exit_code(error.__cause__) if error.__cause__ else FOUND
    return WRONG_INPUT

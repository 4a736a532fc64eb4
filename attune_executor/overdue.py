"""What becomes of an execution that its worker does not report about. Pure: no database, no broker.

An execution *has begun* when a worker reported that it runs. What has begun is ended for the sake
of its dispatch only when its worker is away as well; what has not is failed or scheduled anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from attune_executor.store import Execution
from attune_mq.payloads import ExecutionStatus


@dataclass(frozen=True)
class Limits:
    """How long is waited for a word of a worker; the settings of these names say what for."""

    dispatch_grace: timedelta
    dispatch_limit: timedelta
    worker_absence: timedelta
    running_limit: timedelta


@dataclass(frozen=True)
class Absence:
    """For how long, up to now, a worker's queue was seen without a consumer, or not at all; the
    dispatch was seen to have died; and nothing new was seen of the execution. ``None``: it is not
    so. It is begun anew where broker or database were away, since reports are then on their way.
    """

    without_consumer: timedelta | None = None
    without_queue: timedelta | None = None
    without_dispatch: timedelta | None = None
    without_word: timedelta | None = None


@dataclass(frozen=True)
class ScheduleAnew:
    """No worker can get its dispatch any more."""


@dataclass(frozen=True)
class End:
    """``is_out``: a worker may still have its dispatch, and is to be told."""

    status: ExecutionStatus
    reason: str
    is_out: bool = False


Verdict = ScheduleAnew | End | None


def verdict(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> Verdict:
    """What is to become of an execution that a worker has; ``None``: it is waited for."""
    if execution.status is ExecutionStatus.RUNNING or execution.started_at is not None:
        return _begun(execution, absence, limits, now)
    if execution.status is ExecutionStatus.CANCELING:
        return _canceling(execution, absence, limits, now)
    return _scheduled(execution, absence, limits, now)


def _scheduled(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> Verdict:
    if _lasts(absence.without_dispatch, limits.dispatch_grace):
        return End(ExecutionStatus.FAILED, "its dispatch died: its worker did not begin it in time")
    if _lasts(absence.without_queue, limits.dispatch_grace):
        return ScheduleAnew()
    if _is_silent(execution, absence, limits, limits.dispatch_limit, now):
        reason = f"its worker reported nothing in {limits.dispatch_limit}"
        return End(ExecutionStatus.FAILED, reason, is_out=True)
    return None


def _canceling(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> Verdict:
    """It was asked for while it was ``scheduled``."""
    grace = limits.dispatch_grace
    if _lasts(absence.without_dispatch, grace) or _lasts(absence.without_queue, grace):
        return End(ExecutionStatus.CANCELLED, "no worker began it")
    if _is_silent(execution, absence, limits, limits.dispatch_limit, now):
        reason = f"its worker did not answer the cancellation in {limits.dispatch_limit}"
        return End(ExecutionStatus.ABANDONED, reason)
    return None


def _begun(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> Verdict:
    limit = limits.worker_absence
    is_dead = absence.without_dispatch is not None
    if _lasts(absence.without_queue, limit) or (
        is_dead and _lasts(absence.without_consumer, limit)
    ):
        return End(ExecutionStatus.ABANDONED, "its worker is gone, and its dispatch as well")
    if is_dead and _fell_silent(execution, absence, limits, now):
        return End(ExecutionStatus.ABANDONED, "its dispatch died, and its worker fell silent")
    if _is_silent(execution, absence, limits, limits.running_limit, now):
        reason = f"its worker reported nothing in {limits.running_limit}"
        return End(ExecutionStatus.ABANDONED, reason, is_out=True)
    return None


def _fell_silent(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> bool:
    """Whether what would have been heard since the dispatch died was not: of a worker that repeats
    its report while the action runs, or was asked to cancel. It may have been restarted."""
    if execution.status is ExecutionStatus.CANCELING:
        limit = limits.dispatch_limit
    elif execution.started_at is not None and execution.updated_at > execution.started_at:
        limit = limits.worker_absence
    else:
        return False
    has_lasted = _lasts(absence.without_dispatch, limit)
    return has_lasted and _is_silent(execution, absence, limits, limit, now)


def _is_silent(
    execution: Execution, absence: Absence, limits: Limits, limit: timedelta, now: datetime
) -> bool:
    """By the clock, and for some time before our own eyes: after an executor was away, what it
    should have heard meanwhile still has to be taken from its queue."""
    is_seen = _lasts(absence.without_word, min(limit, limits.worker_absence))
    return is_seen and execution.updated_at + limit <= now


def _lasts(absent: timedelta | None, limit: timedelta) -> bool:
    return absent is not None and absent >= limit

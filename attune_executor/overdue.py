"""Decides about an execution whose worker does not report. Pure: no database, no broker.

An execution *has begun* when a worker reported it as running. After its dispatch died, one that has
begun is ended only when its worker is absent too; one that has not is failed or scheduled again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from attune_executor.store import Execution
from attune_mq.payloads import ExecutionStatus


@dataclass(frozen=True)
class Limits:
    """See the settings of these names."""

    dispatch_grace: timedelta
    dispatch_limit: timedelta
    worker_absence: timedelta
    running_limit: timedelta


@dataclass(frozen=True)
class Absence:
    """How long, until now, the worker's queue has been without consumer, or absent; the dispatch
    has been dead; and no report has been seen. ``None``: not so. Each starts again after broker or
    database were unavailable, since reports are then on their way.
    """

    without_consumer: timedelta | None = None
    without_queue: timedelta | None = None
    without_dispatch: timedelta | None = None
    without_word: timedelta | None = None


@dataclass(frozen=True)
class ScheduleAgain:
    """No worker can receive its dispatch any more."""


@dataclass(frozen=True)
class End:
    """``is_out``: a worker may still have its dispatch, and is to be asked to cancel."""

    status: ExecutionStatus
    reason: str
    is_out: bool = False


Verdict = ScheduleAgain | End | None


def verdict(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> Verdict:
    """About an execution that a worker has; ``None``: wait."""
    if execution.status is ExecutionStatus.RUNNING or execution.started_at is not None:
        return _begun(execution, absence, limits, now)
    if execution.status is ExecutionStatus.CANCELING:
        return _canceling(execution, absence, limits, now)
    return _scheduled(execution, absence, limits, now)


def _scheduled(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> Verdict:
    if _lasts(absence.without_dispatch, limits.dispatch_grace):
        return End(ExecutionStatus.FAILED, "its dispatch died: its worker did not begin it in time")
    if _lasts(absence.without_queue, limits.dispatch_grace):
        return ScheduleAgain()
    if _is_silent(execution, absence, limits, limits.dispatch_limit, now):
        reason = f"its worker reported nothing in {limits.dispatch_limit}"
        return End(ExecutionStatus.FAILED, reason, is_out=True)
    return None


def _canceling(execution: Execution, absence: Absence, limits: Limits, now: datetime) -> Verdict:
    """Cancellation was requested while it was ``scheduled``."""
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
    """Whether no expected report came since the dispatch died: of a worker that repeats its report
    while the action runs, or was asked to cancel. It may have been restarted."""
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
    """By the wall clock, and as observed for some time: after a restart of the executor, reports
    are still in its queue."""
    is_seen = _lasts(absence.without_word, min(limit, limits.worker_absence))
    return is_seen and execution.updated_at + limit <= now


def _lasts(absent: timedelta | None, limit: timedelta) -> bool:
    return absent is not None and absent >= limit

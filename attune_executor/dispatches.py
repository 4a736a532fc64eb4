"""Persistence of dispatches: which were dead-lettered, which are still in the outbox, and which
executions have no recent report.

As in :mod:`store`, every function takes the caller's transaction, and every change is a
compare-and-set.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid5

import sqlalchemy as sa

from attune_executor.lifecycle import WITH_WORKER
from attune_executor.store import Execution, all_executions, read
from attune_executor.tables import executions, messages, with_worker
from attune_mq.payloads import ExecutionStatus
from attune_mq.transactional import to_us

_NAMESPACE = UUID("6d1f4a52-0f0b-4d5c-9a53-0c4f8f3b8a17")

_this = executions.c.id == sa.bindparam("execution_id")
_now = sa.bindparam("now_us", type_=sa.BigInteger)


def message_id(
    kind: Literal["dispatch", "cancel"], execution_id: int, scheduled_at: datetime
) -> str:
    """Of the message to the worker about the scheduling at that time: its dispatch, or the request
    to cancel it."""
    return str(uuid5(_NAMESPACE, f"{kind}/{execution_id}/{to_us(scheduled_at)}"))


_note_death = (
    sa.update(executions)
    .where(
        _this,
        executions.c.status.in_(WITH_WORKER),
        executions.c.scheduled_at_us == sa.bindparam("attempt_us"),
    )
    .values(dispatch_died_at_us=sa.func.coalesce(executions.c.dispatch_died_at_us, _now))
)


def note_death(tx: sa.Connection, execution_id: int, scheduled_at: datetime, now: datetime) -> bool:
    """Records that the dispatch of the scheduling at ``scheduled_at`` was dead-lettered.

    ``False`` when no worker has the execution (any more), or has it by another scheduling.
    """
    values = {"execution_id": execution_id, "now_us": to_us(now)}
    return tx.execute(_note_death, {**values, "attempt_us": to_us(scheduled_at)}).rowcount == 1


_note_running = (
    sa.update(executions)
    .where(_this, executions.c.status.in_({ExecutionStatus.RUNNING, ExecutionStatus.CANCELING}))
    .values(started_at_us=sa.func.coalesce(executions.c.started_at_us, _now), updated_at_us=_now)
)


def note_running(tx: sa.Connection, execution_id: int, now: datetime) -> bool:
    """Records a report about an execution that is running or canceling; its state stays."""
    values = {"execution_id": execution_id, "now_us": to_us(now)}
    return tx.execute(_note_running, values).rowcount == 1


def workers_with_work(tx: sa.Connection) -> list[int]:
    """The ids of workers that have an execution."""
    has_work = sa.select(executions.c.worker_id).where(with_worker).distinct()
    return [worker_id for worker_id in tx.scalars(has_work) if worker_id is not None]


def unreported(
    tx: sa.Connection, *, workers_without_queue: Iterable[int], silent_before: datetime
) -> list[Execution]:
    """Executions that a worker has whose worker has no queue, whose dispatch was dead-lettered, or
    without a report since ``silent_before``."""
    rows = executions.c
    found = all_executions.where(
        with_worker,
        sa.or_(
            rows.worker_id.in_(list(workers_without_queue)),
            rows.dispatch_died_at_us.is_not(None),
            rows.updated_at_us <= to_us(silent_before),
        ),
    )
    return [read(Execution, row) for row in tx.execute(found.order_by(rows.id))]


def _unchanged(seen: Execution) -> sa.Update:
    """For an execution without a report or a change of state since it was read."""
    rows = executions.c
    return sa.update(executions).where(
        rows.id == seen.execution_id,
        rows.status == seen.status,
        rows.updated_at_us == to_us(seen.updated_at),
    )


def end_unreported(
    tx: sa.Connection, seen: Execution, end: ExecutionStatus, now: datetime, result: Any
) -> bool:
    """Ends an execution that is unchanged since it was ``seen``; ``False`` when it is not."""
    ended = _unchanged(seen).values(status=end, result=result, updated_at_us=to_us(now))
    return tx.execute(ended).rowcount == 1


def unschedule(tx: sa.Connection, seen: Execution, now: datetime) -> bool:
    """Back to ``requested``, if it is ``scheduled`` and unchanged since it was ``seen``."""
    back = _unchanged(seen).where(executions.c.status == ExecutionStatus.SCHEDULED)
    values = back.values(status=ExecutionStatus.REQUESTED, updated_at_us=to_us(now))
    return tx.execute(values).rowcount == 1


def withdraw(tx: sa.Connection, seen: Execution, now: datetime) -> bool:
    """Deletes the messages for its worker from the outbox; ``False`` when a relay may be publishing
    one. Those that a relay has published are not there."""
    if seen.scheduled_at is None:
        return True
    outbox = messages.outbox
    attempt = (seen.execution_id, seen.scheduled_at)
    ids = [message_id("dispatch", *attempt), message_id("cancel", *attempt)]
    these = outbox.c.message_id.in_(ids)
    is_free = sa.or_(outbox.c.claimed_by.is_(None), outbox.c.available_at_us <= to_us(now))
    tx.execute(sa.delete(outbox).where(these, is_free))
    return tx.scalar(sa.select(sa.func.count()).select_from(outbox).where(these)) == 0

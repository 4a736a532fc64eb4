"""What the executor remembers of dispatches: which died, which are still in the outbox, and which
executions nobody reports about.

As in :mod:`store`, every function takes the caller's transaction, and every change is compared and
set.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from attune_executor.lifecycle import WITH_WORKER
from attune_executor.store import Execution, execution_of
from attune_executor.tables import executions, messages, with_worker
from attune_mq.payloads import ExecutionStatus
from attune_mq.transactional import Prepared, to_us

_NAMESPACE = UUID("6d1f4a52-0f0b-4d5c-9a53-0c4f8f3b8a17")

_this = executions.c.id == bindparam("execution_id")
_now = bindparam("now_us", type_=BigInteger)


def dispatch_message_id(execution_id: int, scheduled_at: datetime) -> str:
    """The id of the message that dispatches the execution, as scheduled at that moment."""
    return _message_id("dispatch", execution_id, scheduled_at)


def cancel_message_id(execution_id: int, scheduled_at: datetime) -> str:
    """The id of the message that asks the worker of that scheduling to cancel."""
    return _message_id("cancel", execution_id, scheduled_at)


def _message_id(kind: str, execution_id: int, scheduled_at: datetime) -> str:
    return str(uuid5(_NAMESPACE, f"{kind}/{execution_id}/{to_us(scheduled_at)}"))


_note_death = Prepared(
    lambda _: (
        update(executions)
        .where(
            _this,
            executions.c.status.in_(WITH_WORKER),
            executions.c.scheduled_at_us == bindparam("attempt_us"),
        )
        .values(dispatch_died_at_us=func.coalesce(executions.c.dispatch_died_at_us, _now))
    )
)


def note_death(tx: Connection, execution_id: int, scheduled_at: datetime, now: datetime) -> bool:
    """Note that the dispatch of the scheduling at ``scheduled_at`` died. The state stays.

    ``False`` when no worker has the execution (any more), or has it by another scheduling.
    """
    noted = _note_death.execute(
        tx, execution_id=execution_id, attempt_us=to_us(scheduled_at), now_us=to_us(now)
    )
    return noted.rowcount == 1


_note_running = Prepared(
    lambda _: (
        update(executions)
        .where(
            _this,
            executions.c.status.in_({ExecutionStatus.RUNNING, ExecutionStatus.CANCELING}),
        )
        .values(started_at_us=func.coalesce(executions.c.started_at_us, _now), updated_at_us=_now)
    )
)


def note_running(tx: Connection, execution_id: int, now: datetime) -> bool:
    """Note that an execution was heard of which runs, or is to be cancelled. The state stays."""
    return _note_running.execute(tx, execution_id=execution_id, now_us=to_us(now)).rowcount == 1


def workers_with_work(tx: Connection) -> list[int]:
    """The workers that have an execution to do."""
    has_work = select(executions.c.worker_id).where(with_worker).distinct()
    return [worker_id for worker_id in tx.scalars(has_work) if worker_id is not None]


def unreported(
    tx: Connection,
    *,
    workers_without_queue: Iterable[int],
    silent_before: datetime,
) -> list[Execution]:
    """Executions that a worker has, of which one of these is true: its queue is not there, its
    dispatch died, nothing was heard of it since then."""
    rows = executions.c
    found = select(executions).where(
        with_worker,
        or_(
            rows.worker_id.in_(list(workers_without_queue)),
            rows.dispatch_died_at_us.is_not(None),
            rows.updated_at_us <= to_us(silent_before),
        ),
    )
    return [execution_of(row) for row in tx.execute(found.order_by(rows.id))]


def _unchanged(seen: Execution) -> ColumnElement[bool]:
    """Whether nothing was heard of it, and nobody moved it, since it was read."""
    rows = executions.c
    return (
        (rows.id == seen.execution_id)
        & (rows.status == seen.status)
        & (rows.updated_at_us == to_us(seen.updated_at))
    )


def end_unreported(
    tx: Connection, seen: Execution, end: ExecutionStatus, now: datetime, result: Any
) -> bool:
    """End what is still as it was ``seen``; ``False`` when it is not."""
    ended = update(executions).where(_unchanged(seen))
    return (
        tx.execute(ended.values(status=end, result=result, updated_at_us=to_us(now))).rowcount == 1
    )


def unschedule(tx: Connection, seen: Execution, now: datetime) -> bool:
    """Back to ``requested``, if it is still ``scheduled`` as it was ``seen``."""
    back = update(executions).where(
        _unchanged(seen), executions.c.status == ExecutionStatus.SCHEDULED
    )
    values = back.values(status=ExecutionStatus.REQUESTED, updated_at_us=to_us(now))
    return tx.execute(values).rowcount == 1


def withdraw(tx: Connection, seen: Execution, now: datetime) -> bool:
    """Take what was for its worker out of the outbox; ``False`` when a relay may be publishing it.

    What the relay has published already is not there.
    """
    if seen.scheduled_at is None:
        return True
    outbox = messages.outbox
    attempt = (seen.execution_id, seen.scheduled_at)
    these = outbox.c.message_id.in_([dispatch_message_id(*attempt), cancel_message_id(*attempt)])
    is_free = or_(outbox.c.claimed_by.is_(None), outbox.c.available_at_us <= to_us(now))
    tx.execute(delete(outbox).where(these, is_free))
    return tx.scalar(select(func.count()).select_from(outbox).where(these)) == 0

"""What the executor remembers: enforcements, executions, workers.

Every function takes the caller's transaction, so that an effect, the inbox's note of the message
that asked for it and the outbox's messages about it are committed together or not at all.

A change of state is compared and set: it happens only from a state that :mod:`lifecycle` lets it
follow, and only once. A message that is late, repeated, or handled by two executors at the same
moment finds nothing to change, and the function says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, null, select, update

from attune_executor.lifecycle import FINAL, UNSCHEDULED, predecessors
from attune_executor.migrations import migrate as migrate
from attune_executor.tables import enforcements, executions, with_worker, workers
from attune_mq.payloads import (
    EnforcementCreated,
    EnforcementStatus,
    ExecutionStatus,
    WorkerRegistered,
)
from attune_mq.transactional import from_us, insert_into, to_us


@dataclass(frozen=True)
class Execution:
    """An execution as it stands in the database."""

    execution_id: int
    enforcement_id: int | None
    action_ref: str
    action_id: int | None
    config: Any
    status: ExecutionStatus
    worker_id: int | None
    scheduling_attempts: int
    result: Any
    created_at: datetime
    updated_at: datetime
    scheduled_at: datetime | None


@dataclass(frozen=True)
class Worker:
    """A worker that announced itself, and how many executions it holds (``load``)."""

    worker_id: int
    name: str
    runtimes: tuple[str, ...]
    registered_at: datetime
    last_seen_at: datetime
    load: int


def record_enforcement(tx: Connection, payload: EnforcementCreated, now: datetime) -> bool:
    """Keep the enforcement as ``created``; ``False`` when its id is known already."""
    insert = insert_into(tx, enforcements).values(
        enforcement_id=payload.enforcement_id,
        rule_ref=payload.rule_ref,
        trigger_ref=payload.trigger_ref,
        event_id=payload.event_id,
        payload=payload.payload,
        status=EnforcementStatus.CREATED,
        created_at_us=to_us(now),
    )
    fresh = insert.on_conflict_do_nothing().returning(enforcements.c.enforcement_id)
    return tx.execute(fresh).first() is not None


def settle_enforcement(tx: Connection, enforcement_id: int, status: EnforcementStatus) -> bool:
    """Move a ``created`` enforcement to ``processed`` or ``disabled``; ``False`` when it is not."""
    settle = (
        update(enforcements)
        .where(
            enforcements.c.enforcement_id == enforcement_id,
            enforcements.c.status == EnforcementStatus.CREATED,
        )
        .values(status=status)
    )
    return tx.execute(settle).rowcount == 1


def create_execution(
    tx: Connection,
    *,
    enforcement_id: int | None,
    action_ref: str,
    now: datetime,
    action_id: int | None = None,
    config: Any = None,
) -> int | None:
    """Make an execution (``requested``) and return its id; ``None`` when its enforcement has one.

    An execution without an enforcement is always made. The enforcement must be recorded before.
    """
    insert = insert_into(tx, executions).values(
        enforcement_id=enforcement_id,
        action_ref=action_ref,
        action_id=action_id,
        config=config,
        status=ExecutionStatus.REQUESTED,
        scheduling_attempts=0,
        created_at_us=to_us(now),
        updated_at_us=to_us(now),
    )
    fresh = insert.on_conflict_do_nothing(index_elements=["enforcement_id"])
    execution_id: int | None = tx.execute(fresh.returning(executions.c.id)).scalar()
    return execution_id


def get_execution(tx: Connection, execution_id: int) -> Execution | None:
    """The execution, or ``None`` when there is none of that id."""
    row = tx.execute(select(executions).where(executions.c.id == execution_id)).first()
    return None if row is None else _execution(row)


def count_scheduling_attempt(tx: Connection, execution_id: int, now: datetime) -> int | None:
    """Begin an attempt to schedule: the execution is ``scheduling``; says which attempt it is.

    ``None`` when the execution waits for no worker (any more): scheduled, cancelled, unknown.
    """
    attempt = (
        update(executions)
        .where(executions.c.id == execution_id, executions.c.status.in_(UNSCHEDULED))
        .values(
            status=ExecutionStatus.SCHEDULING,
            scheduling_attempts=executions.c.scheduling_attempts + 1,
            updated_at_us=to_us(now),
        )
        .returning(executions.c.scheduling_attempts)
    )
    number: int | None = tx.execute(attempt).scalar()
    return number


def mark_scheduled(tx: Connection, execution_id: int, worker_id: int, now: datetime) -> bool:
    """Give the execution to a worker that has registered; ``False`` when it waits for none."""
    scheduled = (
        update(executions)
        .where(
            executions.c.id == execution_id,
            executions.c.status.in_(predecessors(ExecutionStatus.SCHEDULED)),
        )
        .values(
            status=ExecutionStatus.SCHEDULED,
            worker_id=worker_id,
            scheduled_at_us=to_us(now),
            updated_at_us=to_us(now),
        )
    )
    return tx.execute(scheduled).rowcount == 1


def move_execution(
    tx: Connection,
    execution_id: int,
    new: ExecutionStatus,
    now: datetime,
    *,
    result: Any = None,
) -> ExecutionStatus | None:
    """Move the execution to ``new``, return the state it left; ``None`` when it may not go there.

    A final state may be heard of twice, first without the result and then with it. The result is
    then kept although the execution does not move.
    """
    status_now = select(executions.c.status).where(executions.c.id == execution_id)
    # Locked, so that what is read is what is left. (SQLite's transaction has the lock already.)
    left: ExecutionStatus | None = tx.execute(status_now.with_for_update()).scalar()
    if left is None or left not in predecessors(new):
        _keep_late_result(tx, execution_id, new, result)
        return None
    move = (
        update(executions)
        .where(executions.c.id == execution_id, executions.c.status == left)
        .values(status=new, result=result, updated_at_us=to_us(now))
    )
    return left if tx.execute(move).rowcount == 1 else None


def register_worker(tx: Connection, payload: WorkerRegistered, now: datetime) -> bool:
    """Keep what the worker says of itself; ``False`` when a later registration is known."""
    insert = insert_into(tx, workers).values(
        worker_id=payload.worker_id,
        name=payload.name,
        runtimes=list(payload.runtimes),
        registered_at_us=to_us(payload.registered_at),
        last_seen_at_us=to_us(now),
    )
    said = insert.excluded
    newest = insert.on_conflict_do_update(
        index_elements=["worker_id"],
        set_={
            "name": said.name,
            "runtimes": said.runtimes,
            "registered_at_us": said.registered_at_us,
            "last_seen_at_us": said.last_seen_at_us,
        },
        where=workers.c.registered_at_us <= said.registered_at_us,
    )
    return tx.execute(newest.returning(workers.c.worker_id)).first() is not None


def workers_for_runtime(tx: Connection, runtime: str) -> list[Worker]:
    """The workers that have the runtime, the least loaded first, whether they live or not."""
    loads = (
        select(executions.c.worker_id, func.count().label("load"))
        .where(with_worker)
        .group_by(executions.c.worker_id)
        .subquery()
    )
    load = func.coalesce(loads.c.load, 0)
    by_load = (
        select(workers, load.label("load"))
        .outerjoin(loads, loads.c.worker_id == workers.c.worker_id)
        .order_by(load, workers.c.worker_id)
    )
    # The two databases look into JSON differently, and there are tens of workers, not thousands.
    return [_worker(row) for row in tx.execute(by_load) if runtime in row.runtimes]


def execution_counts(tx: Connection) -> dict[ExecutionStatus, int]:
    """How many executions are in each state; states without one are left out."""
    counts = select(executions.c.status, func.count().label("n")).group_by(executions.c.status)
    return {row.status: row.n for row in tx.execute(counts)}


def enforcement_counts(tx: Connection) -> dict[EnforcementStatus, int]:
    """How many enforcements are in each state; states without one are left out."""
    status = enforcements.c.status
    counts = select(status, func.count().label("n")).group_by(status)
    return {row.status: row.n for row in tx.execute(counts)}


def _keep_late_result(
    tx: Connection, execution_id: int, status: ExecutionStatus, result: Any
) -> None:
    if status not in FINAL or result is None:
        return
    keep = (
        update(executions)
        .where(
            executions.c.id == execution_id,
            executions.c.status == status,
            executions.c.result.is_(null()),
        )
        .values(result=result)
    )
    tx.execute(keep)


def _execution(row: Row[Any]) -> Execution:
    return Execution(
        execution_id=row.id,
        enforcement_id=row.enforcement_id,
        action_ref=row.action_ref,
        action_id=row.action_id,
        config=row.config,
        status=row.status,
        worker_id=row.worker_id,
        scheduling_attempts=row.scheduling_attempts,
        result=row.result,
        created_at=from_us(row.created_at_us),
        updated_at=from_us(row.updated_at_us),
        scheduled_at=None if row.scheduled_at_us is None else from_us(row.scheduled_at_us),
    )


def _worker(row: Row[Any]) -> Worker:
    return Worker(
        worker_id=row.worker_id,
        name=row.name,
        runtimes=tuple(row.runtimes),
        registered_at=from_us(row.registered_at_us),
        last_seen_at=from_us(row.last_seen_at_us),
        load=row.load,
    )

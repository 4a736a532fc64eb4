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
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    Row,
    bindparam,
    case,
    func,
    null,
    select,
    update,
)

from attune_executor.lifecycle import FINAL, UNSCHEDULED, predecessors
from attune_executor.migrations import migrate as migrate
from attune_executor.tables import enforcements, executions, with_worker, workers
from attune_mq.payloads import (
    EnforcementCreated,
    EnforcementStatus,
    ExecutionStatus,
    WorkerRegistered,
)
from attune_mq.transactional import Prepared, from_us, insert_into, to_us


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
    started_at: datetime | None = None
    """When a worker first reported that it runs."""
    dispatch_died_at: datetime | None = None
    """When the dispatch of the last scheduling died in its worker's queue."""


@dataclass(frozen=True)
class Worker:
    """A worker that announced itself, and how many executions it holds (``load``)."""

    worker_id: int
    name: str
    runtimes: tuple[str, ...]
    registered_at: datetime
    last_seen_at: datetime
    load: int


_record = Prepared(
    lambda tx: (
        insert_into(tx, enforcements)
        .on_conflict_do_nothing()
        .returning(enforcements.c.enforcement_id)
    )
)


def record_enforcement(
    tx: Connection, payload: EnforcementCreated, status: EnforcementStatus, now: datetime
) -> bool:
    """Keep the enforcement, and what became of it; ``False`` when its id is known already."""
    fresh = _record.execute(
        tx,
        enforcement_id=payload.enforcement_id,
        rule_ref=payload.rule_ref,
        trigger_ref=payload.trigger_ref,
        event_id=payload.event_id,
        payload=payload.payload,
        status=status,
        created_at_us=to_us(now),
    )
    return fresh.first() is not None


_create = Prepared(
    lambda tx: (
        insert_into(tx, executions)
        .on_conflict_do_nothing(index_elements=["enforcement_id"])
        .returning(executions.c.id)
    )
)


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
    fresh = _create.execute(
        tx,
        enforcement_id=enforcement_id,
        action_ref=action_ref,
        action_id=action_id,
        config=config,
        status=ExecutionStatus.REQUESTED,
        scheduling_attempts=0,
        created_at_us=to_us(now),
        updated_at_us=to_us(now),
    )
    execution_id: int | None = fresh.scalar()
    return execution_id


_this = executions.c.id == bindparam("execution_id")
_get = Prepared(lambda _: select(executions).where(_this))


def get_execution(tx: Connection, execution_id: int) -> Execution | None:
    """The execution, or ``None`` when there is none of that id."""
    row = _get.execute(tx, execution_id=execution_id).first()
    return None if row is None else execution_of(row)


_attempt = (
    update(executions)
    .where(_this, executions.c.status.in_(UNSCHEDULED))
    .values(
        scheduling_attempts=executions.c.scheduling_attempts + 1, updated_at_us=bindparam("now_us")
    )
)
_count = Prepared(
    lambda _: _attempt.values(status=ExecutionStatus.SCHEDULING).returning(
        executions.c.scheduling_attempts
    )
)


def count_scheduling_attempt(tx: Connection, execution_id: int, now: datetime) -> int | None:
    """Try in vain to schedule: the execution is ``scheduling``; says how often that was tried.

    ``None`` when the execution waits for no worker (any more): scheduled, cancelled, unknown.
    """
    number: int | None = _count.execute(tx, execution_id=execution_id, now_us=to_us(now)).scalar()
    return number


_schedule = Prepared(
    lambda _: _attempt.values(
        status=ExecutionStatus.SCHEDULED,
        worker_id=bindparam("worker"),
        scheduled_at_us=bindparam("now_us"),
        dispatch_died_at_us=None,
    )
)


def mark_scheduled(tx: Connection, execution_id: int, worker_id: int, now: datetime) -> bool:
    """Give the execution to a worker that has registered, which is an attempt as well; ``False``
    when it waits for none."""
    scheduled = _schedule.execute(
        tx, execution_id=execution_id, worker=worker_id, now_us=to_us(now)
    )
    return scheduled.rowcount == 1


@cache
def _move_to(new: ExecutionStatus, since: frozenset[ExecutionStatus]) -> Prepared:
    # Of two moves at once the second waits for the first, and then sees what that one has left.
    row, now_us = executions.c, bindparam("now_us", type_=BigInteger)
    values: dict[str, Any] = {"status": new, "result": bindparam("said"), "updated_at_us": now_us}
    if new is ExecutionStatus.RUNNING:
        values["started_at_us"] = func.coalesce(row.started_at_us, now_us)
    elif new is ExecutionStatus.CANCELING:
        # What an executor of the version before has marked as running says no more than that.
        began_at_us = func.coalesce(row.started_at_us, row.updated_at_us)
        is_running = row.status == ExecutionStatus.RUNNING
        values["started_at_us"] = case((is_running, began_at_us), else_=row.started_at_us)
    return Prepared(lambda _: update(executions).where(_this, row.status.in_(since)).values(values))


def move_execution(
    tx: Connection,
    execution_id: int,
    new: ExecutionStatus,
    now: datetime,
    *,
    result: Any = None,
    since: frozenset[ExecutionStatus] | None = None,
) -> bool:
    """Move the execution to ``new`` if it is in one of the states ``since`` (all that
    :func:`predecessors` allows, unless given); ``False`` when it is not.

    A final state may be heard of twice, first without the result and then with it. The result is
    then kept although the execution does not move.
    """
    may_follow = predecessors(new)
    move = _move_to(new, may_follow if since is None else since & may_follow)
    moved = move.execute(tx, execution_id=execution_id, said=result, now_us=to_us(now))
    if moved.rowcount == 1:
        return True
    if new in FINAL and result is not None:
        _keep.execute(tx, execution_id=execution_id, reached=new, said=result)
    return False


def _registration(tx: Connection) -> Executable:
    insert = insert_into(tx, workers)
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
    return newest.returning(workers.c.worker_id)


_register = Prepared(_registration)


def register_worker(tx: Connection, payload: WorkerRegistered, now: datetime) -> bool:
    """Keep what the worker says of itself; ``False`` when a later registration is known.

    One from the future counts as of ``now``: a worker whose clock was wrong once is heard again.
    """
    known = _register.execute(
        tx,
        worker_id=payload.worker_id,
        name=payload.name,
        runtimes=list(payload.runtimes),
        registered_at_us=to_us(min(payload.registered_at, now)),
        last_seen_at_us=to_us(now),
    )
    return known.first() is not None


def _by_load(_: Connection) -> Executable:
    loads = (
        select(executions.c.worker_id, func.count().label("load"))
        .where(with_worker)
        .group_by(executions.c.worker_id)
        .subquery()
    )
    load = func.coalesce(loads.c.load, 0)
    return (
        select(workers, load.label("load"))
        .outerjoin(loads, loads.c.worker_id == workers.c.worker_id)
        .order_by(load, workers.c.worker_id)
    )


_workers_by_load = Prepared(_by_load)


def workers_for_runtime(tx: Connection, runtime: str) -> list[Worker]:
    """The workers that have the runtime, the least loaded first, whether they live or not."""
    # The two databases look into JSON differently, and there are tens of workers, not thousands.
    return [_worker(row) for row in _workers_by_load.execute(tx) if runtime in row.runtimes]


def execution_counts(tx: Connection) -> dict[ExecutionStatus, int]:
    """How many executions are in each state; states without one are left out."""
    counts = select(executions.c.status, func.count().label("n")).group_by(executions.c.status)
    return {row.status: row.n for row in tx.execute(counts)}


def enforcement_counts(tx: Connection) -> dict[EnforcementStatus, int]:
    """How many enforcements are in each state; states without one are left out."""
    status = enforcements.c.status
    counts = select(status, func.count().label("n")).group_by(status)
    return {row.status: row.n for row in tx.execute(counts)}


_keep = Prepared(
    lambda _: (
        update(executions)
        .where(_this, executions.c.status == bindparam("reached"), executions.c.result.is_(null()))
        .values(result=bindparam("said"))
    )
)


def execution_of(row: Row[Any]) -> Execution:
    """A row of the table."""
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
        scheduled_at=_moment(row.scheduled_at_us),
        started_at=_moment(row.started_at_us),
        dispatch_died_at=_moment(row.dispatch_died_at_us),
    )


def _moment(at_us: int | None) -> datetime | None:
    return None if at_us is None else from_us(at_us)


def _worker(row: Row[Any]) -> Worker:
    return Worker(
        worker_id=row.worker_id,
        name=row.name,
        runtimes=tuple(row.runtimes),
        registered_at=from_us(row.registered_at_us),
        last_seen_at=from_us(row.last_seen_at_us),
        load=row.load,
    )

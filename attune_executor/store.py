"""Persistence of enforcements, executions and workers.

Every function takes the caller's transaction, so that an effect, the message's row in the inbox and
the messages about it in the outbox are committed together or not at all.

A change of state is a compare-and-set: it happens only from a state that :mod:`lifecycle` lets it
follow, and only once. For a message that is late, repeated, or handled by two executors at the same
time there is nothing to change, and the function returns that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa

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

T = TypeVar("T")


@dataclass(frozen=True)
class Execution:
    """A row of the table."""

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
    """When a worker first reported it as running."""
    dispatch_died_at: datetime | None = None
    """When the dispatch of the last scheduling was dead-lettered from its worker's queue."""


@dataclass(frozen=True)
class Worker:
    """A registered worker, and how many executions it holds (``load``)."""

    worker_id: int
    name: str
    runtimes: list[str]
    registered_at: datetime
    last_seen_at: datetime
    load: int


all_executions = sa.select(
    executions.c.id.label("execution_id"), *(one for one in executions.c if one.name != "id")
)


def read(kind: type[T], row: sa.Row[Any]) -> T:
    """The row as a value of ``kind``, whose fields have the names of the columns; a time, that of
    its column without ``_us``."""
    fields = {}
    for name, value in row._mapping.items():  # noqa: SLF001 - public, in spite of its name
        is_time = name.endswith("_us") and value is not None
        fields[name.removesuffix("_us")] = from_us(value) if is_time else value
    return kind(**fields)


_record = Prepared(
    lambda tx: (
        insert_into(tx, enforcements)
        .on_conflict_do_nothing()
        .returning(enforcements.c.enforcement_id)
    )
)


def record_enforcement(
    tx: sa.Connection, payload: EnforcementCreated, status: EnforcementStatus, now: datetime
) -> bool:
    """Stores the enforcement and its status; ``False`` when its id is known already."""
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
    tx: sa.Connection,
    *,
    enforcement_id: int | None,
    action_ref: str,
    now: datetime,
    action_id: int | None = None,
    config: Any = None,
) -> int | None:
    """Creates an execution (``requested``) and returns its id; ``None`` when its enforcement has
    one. The enforcement must be recorded before."""
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


_this = executions.c.id == sa.bindparam("execution_id")
_get = all_executions.where(_this)


def get_execution(tx: sa.Connection, execution_id: int) -> Execution | None:
    row = tx.execute(_get, {"execution_id": execution_id}).first()
    return None if row is None else read(Execution, row)


_attempt = (
    sa.update(executions)
    .where(_this, executions.c.status.in_(UNSCHEDULED))
    .values(
        scheduling_attempts=executions.c.scheduling_attempts + 1,
        updated_at_us=sa.bindparam("now_us"),
    )
)
_count = _attempt.values(status=ExecutionStatus.SCHEDULING).returning(
    executions.c.scheduling_attempts
)


def count_scheduling_attempt(tx: sa.Connection, execution_id: int, now: datetime) -> int | None:
    """Records a failed scheduling attempt: the execution is ``scheduling``. Returns their number.

    ``None`` when the execution waits for no worker (any more): scheduled, cancelled, unknown.
    """
    return tx.execute(_count, {"execution_id": execution_id, "now_us": to_us(now)}).scalar()


_schedule = _attempt.values(
    status=ExecutionStatus.SCHEDULED,
    worker_id=sa.bindparam("worker"),
    scheduled_at_us=sa.bindparam("now_us"),
    dispatch_died_at_us=None,
)


def mark_scheduled(tx: sa.Connection, execution_id: int, worker_id: int, now: datetime) -> bool:
    """Assigns the execution to a registered worker, which counts as an attempt as well; ``False``
    when it waits for none."""
    values = {"execution_id": execution_id, "worker": worker_id, "now_us": to_us(now)}
    return tx.execute(_schedule, values).rowcount == 1


@cache
def _move_to(new: ExecutionStatus, since: frozenset[ExecutionStatus]) -> sa.Update:
    # Of two concurrent moves the second waits for the commit of the first, and sees its result.
    row, now_us = executions.c, sa.bindparam("now_us", type_=sa.BigInteger)
    values: dict[str, Any] = {
        "status": new,
        "result": sa.bindparam("said"),
        "updated_at_us": now_us,
    }
    if new is ExecutionStatus.RUNNING:
        values["started_at_us"] = sa.func.coalesce(row.started_at_us, now_us)
    elif new is ExecutionStatus.CANCELING:
        # An executor of an older version does not set started_at_us.
        began_at_us = sa.func.coalesce(row.started_at_us, row.updated_at_us)
        is_running = row.status == ExecutionStatus.RUNNING
        values["started_at_us"] = sa.case((is_running, began_at_us), else_=row.started_at_us)
    return sa.update(executions).where(_this, row.status.in_(since)).values(values)


_keep = (
    sa.update(executions)
    .where(
        _this, executions.c.status == sa.bindparam("reached"), executions.c.result.is_(sa.null())
    )
    .values(result=sa.bindparam("said"))
)


def move_execution(
    tx: sa.Connection,
    execution_id: int,
    new: ExecutionStatus,
    now: datetime,
    *,
    result: Any = None,
    since: frozenset[ExecutionStatus] | None = None,
) -> bool:
    """Moves the execution to ``new`` if it is in one of the states ``since`` (by default all that
    :func:`predecessors` allows); ``False`` when it is not.

    A final state may be reported twice, first without the result and then with it. The result is
    then stored although the execution does not move.
    """
    may_follow = predecessors(new)
    move = _move_to(new, may_follow if since is None else since & may_follow)
    values = {"execution_id": execution_id, "said": result}
    if tx.execute(move, {**values, "now_us": to_us(now)}).rowcount == 1:
        return True
    if new in FINAL and result is not None:
        tx.execute(_keep, {**values, "reached": new})
    return False


def _registration(tx: sa.Connection) -> sa.Executable:
    insert = insert_into(tx, workers)
    new = insert.excluded
    newest = insert.on_conflict_do_update(
        index_elements=["worker_id"],
        set_={one.name: one for one in new if one.name != "worker_id"},
        where=workers.c.registered_at_us <= new.registered_at_us,
    )
    return newest.returning(workers.c.worker_id)


_register = Prepared(_registration)


def register_worker(tx: sa.Connection, payload: WorkerRegistered, now: datetime) -> bool:
    """Stores the registration; ``False`` when a later one is known.

    One from the future counts as of ``now``: otherwise a clock that was wrong once would block all
    later registrations of the worker.
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


_loads = (
    sa.select(executions.c.worker_id, sa.func.count().label("load"))
    .where(with_worker)
    .group_by(executions.c.worker_id)
    .subquery()
)
_load = sa.func.coalesce(_loads.c.load, 0).label("load")
_workers_by_load = (
    sa.select(workers, _load)
    .outerjoin(_loads, _loads.c.worker_id == workers.c.worker_id)
    .order_by(_load, workers.c.worker_id)
)


def workers_for_runtime(tx: sa.Connection, runtime: str) -> list[Worker]:
    """The workers that have the runtime, alive or not, the least loaded first."""
    # The two databases query JSON differently, and there are tens of workers, not thousands.
    return [read(Worker, row) for row in tx.execute(_workers_by_load) if runtime in row.runtimes]


def execution_counts(tx: sa.Connection) -> dict[ExecutionStatus, int]:
    """How many executions are in each state; states without one are left out."""
    return _counts(tx, executions.c.status)


def enforcement_counts(tx: sa.Connection) -> dict[EnforcementStatus, int]:
    """How many enforcements are in each state; states without one are left out."""
    return _counts(tx, enforcements.c.status)


def _counts(tx: sa.Connection, status: sa.Column[Any]) -> dict[Any, int]:
    counts = tx.execute(sa.select(status, sa.func.count()).group_by(status))
    return {row[0]: row[1] for row in counts}

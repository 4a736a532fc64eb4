from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, TypeVar

import pytest
import sqlalchemy.exc
from sqlalchemy import Connection, Engine, event, update

from attune_executor import store
from attune_executor.lifecycle import FINAL, predecessors
from attune_executor.tables import executions
from attune_mq.payloads import (
    EnforcementCreated,
    EnforcementStatus,
    ExecutionStatus as S,
    WorkerRegistered,
)
from attune_mq.transactional import create_database_engine, is_transient

NOON = datetime(2026, 9, 3, 12, 0, 0, 123_456, tzinfo=UTC)
PROCESSED = EnforcementStatus.PROCESSED
LATER = NOON + timedelta(seconds=5)

T = TypeVar("T")

#: JSON that databases stumble on: NUL, numbers beyond 64 bits, text beyond the basic plane.
ODD_JSON = {
    "nul": "\0",
    "big": 2**80,
    "float": 1e300,
    "text": "☃ 𝄞 '; --",
    "deep": [[[{}]]],
    "": None,
}


@pytest.fixture
def tx(engine: Engine) -> Any:
    store.migrate(engine)
    with engine.begin() as connection:
        yield connection


@pytest.fixture
def migrated(engine: Engine) -> Engine:
    store.migrate(engine)
    return engine


def enforcement(enforcement_id: int = 1, **fields: Any) -> EnforcementCreated:
    known = {"rule_ref": "core.on_timer", "trigger_ref": "core.timer", "payload": {"n": 1}}
    return EnforcementCreated(enforcement_id=enforcement_id, **known | fields)


def worker(
    worker_id: int, *runtimes: str, at: datetime = NOON, name: str = "w"
) -> WorkerRegistered:
    return WorkerRegistered(worker_id=worker_id, name=name, runtimes=runtimes, registered_at=at)


def new_execution(tx: Connection, **fields: Any) -> int:
    known: dict[str, Any] = {"enforcement_id": None, "action_ref": "core.echo", "now": NOON}
    execution_id = store.create_execution(tx, **known | fields)
    assert execution_id is not None
    return execution_id


def stored(tx: Connection, execution_id: int) -> store.Execution:
    execution = store.get_execution(tx, execution_id)
    assert execution is not None
    return execution


def at_once(engine: Engine, work: Callable[[Connection], T], threads: int = 4) -> list[T]:
    """The results of ``work``, done by several threads at the same time, each in a transaction."""
    start = Barrier(threads)

    def one(_: int) -> T:
        start.wait()
        with engine.begin() as tx:
            return work(tx)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


# Enforcements


def test_an_enforcement_is_recorded_once(tx: Connection) -> None:
    assert store.record_enforcement(tx, enforcement(1), PROCESSED, NOON)
    assert not store.record_enforcement(
        tx, enforcement(1, rule_ref="another.rule"), PROCESSED, LATER
    )
    assert store.record_enforcement(tx, enforcement(2), PROCESSED, NOON)
    assert store.enforcement_counts(tx) == {PROCESSED: 2}


def test_ids_may_be_anything_that_fits_64_bits(tx: Connection) -> None:
    for enforcement_id in (2**63 - 1, -(2**63), 0):
        assert store.record_enforcement(
            tx, enforcement(enforcement_id, event_id=2**63 - 1), PROCESSED, NOON
        )


# Executions are made


def test_an_execution_is_stored_as_it_was_asked_for(tx: Connection) -> None:
    store.record_enforcement(tx, enforcement(1, payload=ODD_JSON), PROCESSED, NOON)
    execution_id = new_execution(tx, enforcement_id=1, action_id=44, config=ODD_JSON)
    assert stored(tx, execution_id) == store.Execution(
        execution_id=execution_id,
        enforcement_id=1,
        action_ref="core.echo",
        action_id=44,
        config=ODD_JSON,
        status=S.REQUESTED,
        worker_id=None,
        scheduling_attempts=0,
        result=None,
        created_at=NOON,
        updated_at=NOON,
        scheduled_at=None,
    )


def test_an_enforcement_has_one_execution(tx: Connection) -> None:
    store.record_enforcement(tx, enforcement(1), PROCESSED, NOON)
    assert new_execution(tx, enforcement_id=1)
    again = store.create_execution(tx, enforcement_id=1, action_ref="core.echo", now=LATER)
    assert again is None
    assert store.execution_counts(tx) == {S.REQUESTED: 1}


def test_executions_without_an_enforcement_are_as_many_as_are_asked_for(tx: Connection) -> None:
    assert new_execution(tx) != new_execution(tx)


def test_an_execution_of_an_enforcement_that_was_not_recorded_is_refused(migrated: Engine) -> None:
    with pytest.raises(sqlalchemy.exc.IntegrityError) as caught, migrated.begin() as tx:
        store.create_execution(tx, enforcement_id=99, action_ref="core.echo", now=NOON)
    assert not is_transient(caught.value)


def test_an_execution_that_is_not_there_is_none(tx: Connection) -> None:
    assert store.get_execution(tx, 12001) is None


def test_executors_that_handle_one_enforcement_at_once_make_one_execution(
    migrated: Engine,
) -> None:
    def handle(tx: Connection) -> int | None:
        store.record_enforcement(tx, enforcement(1), PROCESSED, NOON)
        return store.create_execution(tx, enforcement_id=1, action_ref="core.echo", now=NOON)

    made = at_once(migrated, handle)
    assert sum(execution_id is not None for execution_id in made) == 1


# Scheduling


def test_each_attempt_to_schedule_is_counted(tx: Connection) -> None:
    execution_id = new_execution(tx)
    assert store.count_scheduling_attempt(tx, execution_id, LATER) == 1
    assert store.count_scheduling_attempt(tx, execution_id, LATER) == 2
    execution = stored(tx, execution_id)
    assert (execution.status, execution.updated_at) == (S.SCHEDULING, LATER)


def test_no_attempt_is_counted_for_what_waits_for_no_worker(tx: Connection) -> None:
    scheduled, cancelled = new_execution(tx), new_execution(tx)
    store.register_worker(tx, worker(7), NOON)
    store.mark_scheduled(tx, scheduled, 7, NOON)
    store.move_execution(tx, cancelled, S.CANCELLED, NOON)
    for execution_id in (scheduled, cancelled, 12001):
        assert store.count_scheduling_attempt(tx, execution_id, LATER) is None


def test_an_execution_is_given_to_one_worker_only(tx: Connection) -> None:
    execution_id = new_execution(tx)
    store.register_worker(tx, worker(7), NOON)
    store.register_worker(tx, worker(8), NOON)
    store.count_scheduling_attempt(tx, execution_id, NOON)
    assert store.mark_scheduled(tx, execution_id, 7, LATER)
    assert not store.mark_scheduled(tx, execution_id, 8, LATER)
    execution = stored(tx, execution_id)
    assert (execution.status, execution.worker_id) == (S.SCHEDULED, 7)
    assert (execution.scheduled_at, execution.updated_at) == (LATER, LATER)


def test_schedulers_that_choose_at_once_give_an_execution_to_one_worker(migrated: Engine) -> None:
    with migrated.begin() as tx:
        execution_id = new_execution(tx)
        store.register_worker(tx, worker(7), NOON)
    won = at_once(migrated, lambda tx: store.mark_scheduled(tx, execution_id, 7, NOON))
    assert sum(won) == 1


def test_an_execution_is_not_given_to_a_worker_that_never_registered(migrated: Engine) -> None:
    with migrated.begin() as tx:
        execution_id = new_execution(tx)
    with pytest.raises(sqlalchemy.exc.IntegrityError), migrated.begin() as tx:
        store.mark_scheduled(tx, execution_id, 99, NOON)


# Moving along the states


@pytest.mark.parametrize("new", S)
@pytest.mark.parametrize("current", S)
def test_an_execution_moves_exactly_where_its_lifecycle_allows(
    sqlite_store: Engine, current: S, new: S
) -> None:
    with sqlite_store.begin() as tx:
        execution_id = new_execution(tx)
        if current is not S.REQUESTED:
            store.move_execution(tx, execution_id, current, NOON)
        has_moved = store.move_execution(tx, execution_id, new, LATER)
        execution = stored(tx, execution_id)
    moved = current in predecessors(new)
    assert has_moved == moved
    assert execution.status == (new if moved else current)
    assert execution.updated_at == (LATER if moved else NOON)


@pytest.fixture(scope="module")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """One database for the table of all moves."""
    path = tmp_path_factory.mktemp("store") / "attune.db"
    engine = create_database_engine(f"sqlite:///{path}")
    store.migrate(engine)
    return engine


def test_what_is_late_or_repeated_changes_nothing(tx: Connection) -> None:
    execution_id = new_execution(tx)
    assert store.move_execution(tx, execution_id, S.RUNNING, NOON)
    assert store.move_execution(tx, execution_id, S.COMPLETED, NOON, result=[1])
    before = stored(tx, execution_id)
    assert not store.move_execution(tx, execution_id, S.RUNNING, LATER)
    assert not store.move_execution(tx, execution_id, S.COMPLETED, LATER, result=[2])
    assert not store.move_execution(tx, execution_id, S.FAILED, LATER, result=[3])
    assert stored(tx, execution_id) == before


@pytest.mark.parametrize(("status", "began_at"), [(S.RUNNING, NOON), (S.SCHEDULED, None)])
def test_what_an_older_executor_marked_as_running_has_begun_when_it_is_cancelled(
    tx: Connection, status: S, began_at: datetime | None
) -> None:
    execution_id = new_execution(tx)
    tx.execute(update(executions).values(status=status))  # and nothing of when it began

    assert store.move_execution(tx, execution_id, S.CANCELING, LATER)
    assert stored(tx, execution_id).started_at == began_at


def test_an_execution_that_is_unknown_does_not_move(tx: Connection) -> None:
    assert not store.move_execution(tx, 12001, S.COMPLETED, NOON, result=1)


@pytest.mark.parametrize("result", [ODD_JSON, [], {}, 0, False, ""])
def test_a_result_that_comes_after_its_status_is_kept(tx: Connection, result: Any) -> None:
    execution_id = new_execution(tx)
    store.move_execution(tx, execution_id, S.COMPLETED, NOON)
    assert not store.move_execution(tx, execution_id, S.COMPLETED, LATER, result=result)
    assert stored(tx, execution_id).result == result


def test_the_result_of_another_end_is_not_kept(tx: Connection) -> None:
    execution_id = new_execution(tx)
    store.move_execution(tx, execution_id, S.FAILED, NOON)
    store.move_execution(tx, execution_id, S.COMPLETED, LATER, result={"late": True})
    assert stored(tx, execution_id).result is None


@pytest.mark.parametrize("end", sorted(FINAL))
def test_managers_that_hear_of_one_end_at_once_move_the_execution_once(
    migrated: Engine, end: S
) -> None:
    with migrated.begin() as tx:
        execution_id = new_execution(tx)
    moved = at_once(migrated, lambda tx: store.move_execution(tx, execution_id, end, NOON))
    assert sum(moved) == 1


def test_an_end_that_is_heard_of_while_another_move_is_not_committed_yet_is_not_lost(
    migrated: Engine,
) -> None:
    with migrated.begin() as tx:
        execution_id = new_execution(tx)

    def complete() -> bool:
        with migrated.begin() as tx:
            return store.move_execution(tx, execution_id, S.COMPLETED, LATER)

    with ThreadPoolExecutor(1) as pool, migrated.connect() as first:
        store.move_execution(first, execution_id, S.RUNNING, NOON)
        second = pool.submit(complete)
        finished, _ = wait([second], timeout=0.2)
        assert not finished, "the second move did not wait for the first"
        first.commit()
        assert second.result(30)
    with migrated.begin() as tx:
        assert stored(tx, execution_id).status is S.COMPLETED


def test_different_ends_at_once_leave_one_winner(migrated: Engine) -> None:
    with migrated.begin() as tx:
        execution_id = new_execution(tx)
    ends = iter(sorted(FINAL)[:4])

    def end_it(tx: Connection) -> S | None:
        end = next(ends)
        return end if store.move_execution(tx, execution_id, end, NOON, result=end) else None

    [winner] = [end for end in at_once(migrated, end_it) if end]
    with migrated.begin() as tx:
        execution = stored(tx, execution_id)
    assert (execution.status, execution.result) == (winner, winner)


# Workers


def test_a_worker_is_found_by_each_of_its_runtimes(tx: Connection) -> None:
    assert store.register_worker(tx, worker(7, "shell", "python", name="seven"), LATER)
    assert store.workers_for_runtime(tx, "shell") == store.workers_for_runtime(tx, "python")
    assert store.workers_for_runtime(tx, "python") == [
        store.Worker(
            worker_id=7,
            name="seven",
            runtimes=["shell", "python"],
            registered_at=NOON,
            last_seen_at=LATER,
            load=0,
        )
    ]
    assert store.workers_for_runtime(tx, "pyth") == []


def test_a_worker_that_registers_again_is_what_it_says_now(tx: Connection) -> None:
    store.register_worker(tx, worker(7, "shell"), NOON)
    assert store.register_worker(tx, worker(7, "python", at=LATER, name="new"), LATER)
    assert store.workers_for_runtime(tx, "shell") == []
    [found] = store.workers_for_runtime(tx, "python")
    assert (found.name, found.registered_at) == ("new", LATER)


def test_a_registration_that_is_older_than_the_known_one_changes_nothing(tx: Connection) -> None:
    store.register_worker(tx, worker(7, "python", at=LATER), LATER)
    assert not store.register_worker(tx, worker(7, "shell", at=NOON), LATER)
    assert store.workers_for_runtime(tx, "shell") == []


def test_a_worker_whose_clock_was_ahead_once_is_heard_again(tx: Connection) -> None:
    store.register_worker(tx, worker(7, "shell", at=LATER + timedelta(days=3650)), NOON)
    assert store.register_worker(tx, worker(7, "python", at=LATER), LATER)
    assert [one.worker_id for one in store.workers_for_runtime(tx, "python")] == [7]


def test_a_registration_that_is_repeated_shows_that_the_worker_was_seen(tx: Connection) -> None:
    store.register_worker(tx, worker(7, "shell"), NOON)
    assert store.register_worker(tx, worker(7, "shell"), LATER)
    assert store.workers_for_runtime(tx, "shell")[0].last_seen_at == LATER


def test_the_least_loaded_worker_comes_first_and_only_unfinished_work_is_load(
    tx: Connection,
) -> None:
    for worker_id in (1, 2, 3):
        store.register_worker(tx, worker(worker_id, "shell"), NOON)
    states = {1: [S.SCHEDULED, S.RUNNING, S.CANCELING], 2: sorted(FINAL), 3: [S.SCHEDULED]}
    for worker_id, reached in states.items():
        for status in reached:
            execution_id = new_execution(tx)
            store.mark_scheduled(tx, execution_id, worker_id, NOON)
            store.move_execution(tx, execution_id, status, NOON)
    new_execution(tx)
    loads = [(w.worker_id, w.load) for w in store.workers_for_runtime(tx, "shell")]
    assert loads == [(2, 0), (3, 1), (1, 3)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_load_is_read_from_the_unfinished_executions_alone(migrated: Engine) -> None:
    statements: list[tuple[str, Any]] = []

    @event.listens_for(migrated, "before_cursor_execute")
    def remember(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    with migrated.begin() as tx:
        store.workers_for_runtime(tx, "shell")
        statement, parameters = statements[-1]
        plan = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert any("USING" in step.detail and "executions_with_worker" in step.detail for step in plan)


# All or nothing


def test_what_is_rolled_back_did_not_happen(migrated: Engine) -> None:
    with migrated.connect() as tx:
        store.record_enforcement(tx, enforcement(1), PROCESSED, NOON)
        new_execution(tx, enforcement_id=1)
        store.register_worker(tx, worker(7, "shell"), NOON)
        tx.rollback()
    with migrated.begin() as tx:
        assert store.enforcement_counts(tx) == {}
        assert store.execution_counts(tx) == {}
        assert store.workers_for_runtime(tx, "shell") == []


def test_counts_say_how_many_executions_are_in_each_state(tx: Connection) -> None:
    for status in (S.COMPLETED, S.COMPLETED, S.FAILED):
        store.move_execution(tx, new_execution(tx), status, NOON)
    new_execution(tx)
    assert store.execution_counts(tx) == {S.REQUESTED: 1, S.COMPLETED: 2, S.FAILED: 1}

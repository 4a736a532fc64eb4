"""Two executors handle messages about one execution at the same moment: whichever is first, what
the database says is so. Each executor has an engine of its own, as two processes have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Barrier
from typing import Any, TypeVar

import pika
import pytest
from sqlalchemy import Engine, select

from attune_executor import store
from attune_executor.ledger import Ledger
from attune_executor.manager import ExecutionManager
from attune_executor.presence import WorkerQueues
from attune_executor.rules import Action, Rules
from attune_executor.scheduler import ExecutionScheduler
from attune_executor.tables import executions, messages
from attune_mq import Envelope, Message, QueueInspector, load_topology
from attune_mq.messaging.delivery import Delivery
from attune_mq.payloads import (
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionDispatch,
    ExecutionRequested,
    ExecutionStatus as S,
    ExecutionStatusChanged,
    Payload,
    WorkerRegistered,
)
from attune_mq.transactional import create_database_engine, reading

NUMBER = 60
WORKER = 1
RULES = Rules(version=1, actions={"core.echo": Action(id=1, runtime="shell")}, rules={})

P = TypeVar("P", bound=Payload)
Handle = Callable[[int], None]


class LivingWorkers(WorkerQueues):
    """Routes as in the shipped file; the broker is not asked."""

    def known(self, worker_id: int) -> bool | None:
        return self.is_alive

    def refresh(self) -> None:
        pass

    is_alive = True


class NotPublished:
    """What the outbox holds is looked at there."""

    def publish_envelopes(self, items: Sequence[Any]) -> list[None]:
        raise AssertionError("no relay runs")


def message(payload: P, headers: dict[str, Any] | None = None) -> Message[P]:
    envelope = Envelope.of(payload, source_service="test")
    delivery = Delivery(
        body=b"",
        properties=pika.BasicProperties(message_id=envelope.message_id, headers=headers),
        delivery_tag=1,
        redelivered=False,
        exchange="",
        routing_key="",
        queue="attune.executions.queue",
        consumer_tag="executor.manager",
    )
    return Message(payload, envelope, delivery)


class OneExecutor:
    """Scheduler and manager of one executor, without a broker."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        topology = load_topology()
        self.workers = LivingWorkers(topology, QueueInspector("amqp://nowhere.invalid"))
        self.ledger = Ledger(engine, NotPublished(), service="executor")
        self.scheduler = ExecutionScheduler(
            self.ledger, RULES, self.workers, attempts=5, delay_s=1.0
        )
        self.manager = ExecutionManager(self.ledger, self.workers)

    def schedule(self, execution_id: int) -> None:
        self.scheduler.on_request(
            message(ExecutionRequested(execution_id=execution_id, action_ref="core.echo"))
        )

    def cancel(self, execution_id: int) -> None:
        request = ExecutionCancelRequested(execution_id=execution_id, worker_id=WORKER)
        self.manager.on_cancel(message(request))

    def runs(self, execution_id: int) -> None:
        change = ExecutionStatusChanged(
            execution_id=execution_id,
            action_ref="core.echo",
            previous_status=S.SCHEDULED,
            new_status=S.RUNNING,
            changed_at=datetime.now(UTC),
        )
        self.manager.on_status(message(change))

    def ends(self, execution_id: int, status: S = S.COMPLETED) -> None:
        done = ExecutionCompleted(
            execution_id=execution_id,
            action_id=1,
            action_ref="core.echo",
            status=status,
            completed_at=datetime.now(UTC),
        )
        self.manager.on_completed(message(done))

    def dispatch_dies(self, execution_id: int, reason: str = "expired") -> None:
        with reading(self.engine) as tx:
            scheduled_at = execution_in(tx, execution_id).scheduled_at
        dead = ExecutionDispatch(
            execution_id=execution_id,
            worker_id=WORKER,
            action_ref="core.echo",
            scheduled_attempt_updated_at=scheduled_at or datetime.now(UTC),
        )
        death = {"queue": f"worker.{WORKER}.executions", "reason": reason, "count": 1}
        self.manager.on_dead_dispatch(message(dead, {"x-death": [death]}))


def execution_in(tx: Any, execution_id: int) -> store.Execution:
    execution = store.get_execution(tx, execution_id)
    assert execution is not None
    return execution


@dataclass
class Pair:
    """Two executors, and what is to be found in their database."""

    one: OneExecutor
    other: OneExecutor
    ids: list[int]

    def race(self, left: Handle, right: Handle) -> None:
        """Both at the same moment, for each execution. What one of them raises is raised."""
        start = Barrier(2)

        def run(handle: Handle) -> None:
            for execution_id in self.ids:
                start.wait(60)
                handle(execution_id)

        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(run, handle) for handle in (left, right)]
        for one in done:
            one.result()

    def each(self, handle: Handle) -> None:
        for execution_id in self.ids:
            handle(execution_id)

    def states(self) -> Counter[str]:
        with reading(self.one.engine) as tx:
            return Counter(status.value for status in tx.scalars(select(executions.c.status)))

    def execution(self, execution_id: int) -> store.Execution:
        with reading(self.one.engine) as tx:
            return execution_in(tx, execution_id)

    def said(self, kind: str) -> Counter[int]:
        """How often each execution is in the outbox with a routing key that has ``kind`` in it, or
        as a message of that type."""
        rows = messages.outbox.c
        query = select(rows.message_type, rows.routing_key, rows.body)
        with reading(self.one.engine) as tx:
            found = [
                json.loads(row.body)["payload"]
                for row in tx.execute(query)
                if kind == row.message_type or f".{kind}." in (row.routing_key or "")
            ]
        return Counter(int(one.get("execution_id", one.get("entity"))) for one in found)

    def once_each(self) -> Counter[int]:
        return Counter(self.ids)


@pytest.fixture
def pair(database_url: str) -> Iterator[Pair]:
    engines = [create_database_engine(database_url) for _ in range(2)]
    store.migrate(engines[0])
    now = datetime.now(UTC)
    registered = WorkerRegistered(
        worker_id=WORKER, name="w", runtimes=("shell",), registered_at=now
    )
    with engines[0].begin() as tx:
        store.register_worker(tx, registered, now)
        ids = [
            store.create_execution(
                tx, enforcement_id=None, action_ref="core.echo", action_id=1, now=now
            )
            for _ in range(NUMBER)
        ]
    yield Pair(*map(OneExecutor, engines), ids=[one for one in ids if one is not None])
    for engine in engines:
        engine.dispose()


def test_a_cancellation_that_races_a_schedule_reaches_the_worker_or_nothing_is_dispatched(
    pair: Pair,
) -> None:
    pair.race(pair.one.schedule, pair.other.cancel)

    dispatched, told, ended = pair.said("dispatch"), pair.said("cancel"), Counter[int]()
    for execution_id in pair.ids:
        if pair.execution(execution_id).status is S.CANCELLED:
            ended[execution_id] += 1
    assert set(pair.states()) <= {"cancelled", "canceling"}
    assert dispatched == told
    assert ended + dispatched == pair.once_each()
    assert pair.said("NotificationCreated") == ended


def test_a_dispatch_that_dies_while_its_worker_reports_that_it_runs_ends_nothing(
    pair: Pair,
) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.runs, pair.other.dispatch_dies)

    assert pair.states() == {"running": NUMBER}
    assert not pair.said("NotificationCreated")


@pytest.mark.parametrize("reason", ["expired", "delivery_limit", "maxlen"])
def test_a_dispatch_that_dies_late_ends_nothing_that_runs(pair: Pair, reason: str) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)

    pair.each(lambda execution_id: pair.other.dispatch_dies(execution_id, reason))
    assert pair.states() == {"running": NUMBER}

    pair.each(pair.other.ends)
    assert pair.states() == {"completed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_a_dispatch_that_dies_while_its_worker_completes_it_changes_nothing(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.ends, pair.other.dispatch_dies)

    assert pair.states() == {"completed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_an_execution_whose_worker_gave_it_up_is_failed_although_it_ran(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)

    pair.race(
        lambda execution_id: pair.one.dispatch_dies(execution_id, "rejected"),
        lambda execution_id: pair.other.dispatch_dies(execution_id, "rejected"),
    )

    assert pair.states() == {"failed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_a_completion_that_races_a_cancellation_is_the_end(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)

    pair.race(pair.one.ends, pair.other.cancel)

    assert pair.states() == {"completed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()
    assert pair.said("cancel") <= pair.once_each()


def test_a_completion_that_races_a_timeout_is_one_end_with_one_notification(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.ends, lambda one: pair.other.ends(one, S.TIMEOUT))

    assert pair.states().total() == NUMBER
    assert set(pair.states()) <= {"completed", "timeout"}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_a_report_that_it_runs_and_a_cancellation_at_once_leave_both_known(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.runs, pair.other.cancel)

    assert pair.states() == {"canceling": NUMBER}
    assert pair.said("cancel") == pair.once_each()
    assert all(pair.execution(one).started_at is not None for one in pair.ids)


def test_two_schedulers_dispatch_an_execution_once(pair: Pair) -> None:
    pair.race(pair.one.schedule, pair.other.schedule)

    assert pair.states() == {"scheduled": NUMBER}
    assert pair.said("dispatch") == pair.once_each()
    assert {pair.execution(one).scheduling_attempts for one in pair.ids} == {1}


def test_two_schedulers_that_find_no_worker_count_each_attempt(pair: Pair) -> None:
    for executor in (pair.one, pair.other):
        executor.workers.is_alive = False

    pair.race(pair.one.schedule, pair.other.schedule)

    assert pair.states() == {"scheduling": NUMBER}
    assert {pair.execution(one).scheduling_attempts for one in pair.ids} == {2}


def test_two_cancellations_at_once_ask_the_worker_once(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.cancel, pair.other.cancel)

    assert pair.states() == {"canceling": NUMBER}
    assert pair.said("cancel") == pair.once_each()


def test_a_cancellation_of_what_nobody_scheduled_here_goes_to_the_worker_that_it_names(
    pair: Pair,
) -> None:
    pair.each(pair.one.runs)

    pair.each(pair.other.cancel)

    assert pair.states() == {"canceling": NUMBER}
    assert pair.said("cancel") == pair.once_each()

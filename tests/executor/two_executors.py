"""Two executors on one database, each with an engine of its own, as two processes have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, TypeVar

import pika
from sqlalchemy import Engine, select

from attune_executor import store
from attune_executor.manager import ExecutionManager
from attune_executor.overdue import Limits
from attune_executor.rules import Action, Rules
from attune_executor.scheduler import ExecutionScheduler
from attune_executor.tables import executions, messages
from attune_executor.transactions import Transactions
from attune_executor.watchdog import DispatchWatchdog
from attune_executor.worker_liveness import WorkerQueues
from attune_mq import BrokerUnavailable, Envelope, Message, QueueInspector, load_topology
from attune_mq.message.delivery import Delivery
from attune_mq.message.republishing import retry_copy
from attune_mq.message.settlement import ErrorReport, TryAgain
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
NOW, NEVER = timedelta(0), timedelta(days=1)
LIMITS = Limits(
    dispatch_grace=NOW,
    dispatch_limit=NEVER,
    worker_absence=timedelta(seconds=10),
    running_limit=NEVER,
)
RULES = Rules(version=1, actions={"core.echo": Action(id=1, runtime="shell")}, rules={})

P = TypeVar("P", bound=Payload)
Handle = Callable[[int], None]


class LivingWorkers(WorkerQueues):
    """Routes as in the shipped file; the broker is not asked."""

    is_alive = True
    number: int | None = 1
    is_broker_there = True

    def is_alive_cached(self, worker_id: int) -> bool | None:
        return self.is_alive

    def consumers(self, worker_id: int) -> int | None:
        if not self.is_broker_there:
            raise BrokerUnavailable("it is away")
        return self.number

    def refresh(self) -> None:
        pass


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
        self.transactions = Transactions(engine, NotPublished(), service="executor")
        self.scheduler = ExecutionScheduler(
            self.transactions, RULES, self.workers, attempts=5, delay_s=1.0
        )
        self.manager = ExecutionManager(self.transactions, self.workers)
        self.clock_s = 0.0
        self.watchdog = DispatchWatchdog(
            self.transactions, self.workers, limits=LIMITS, attempts=5, clock_s=lambda: self.clock_s
        )

    def look(self) -> None:
        """As if so much time went by between two looks that a worker away is one that is gone."""
        self.watchdog.look()
        self.clock_s += 1_000.0
        self.watchdog.look()

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

    def dispatch_dies(
        self,
        execution_id: int,
        reason: str = "expired",
        scheduled_at: datetime | None = None,
        *,
        is_retry: bool = False,
    ) -> None:
        """The dispatch of the scheduling at that moment, else of the last one. ``is_retry``: an
        executor has tried to handle it, in vain."""
        if scheduled_at is None:
            with reading(self.engine) as tx:
                scheduled_at = execution_in(tx, execution_id).scheduled_at
        dead = ExecutionDispatch(
            execution_id=execution_id,
            worker_id=WORKER,
            action_ref="core.echo",
            scheduled_attempt_updated_at=scheduled_at or datetime.now(UTC),
        )
        death = {"queue": f"worker.{WORKER}.executions", "reason": reason, "count": 1}
        taken = message(dead, {"x-death": [death]})
        if is_retry:
            again = retry_copy(taken.delivery, TryAgain(1, ErrorReport("OSError", "no disk")))
            taken = message(dead, dict(again.properties.headers or {}))
        self.manager.on_dead_dispatch(taken)


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


@contextmanager
def two_executors(database_url: str) -> Iterator[Pair]:
    """With one worker, and :data:`NUMBER` executions that nobody has scheduled."""
    engines = [create_database_engine(database_url) for _ in range(2)]
    store.migrate(engines[0])
    now = datetime.now(UTC)
    registered = WorkerRegistered(
        worker_id=WORKER, name="w", runtimes=("shell",), registered_at=now
    )
    with engines[0].begin() as tx:
        store.register_worker(tx, registered, now)
        made = [
            store.create_execution(
                tx, enforcement_id=None, action_ref="core.echo", action_id=1, now=now
            )
            for _ in range(NUMBER)
        ]
    one, other = map(OneExecutor, engines)
    yield Pair(one, other, [made_id for made_id in made if made_id is not None])
    for engine in engines:
        engine.dispose()

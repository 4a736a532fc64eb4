"""No execution waits for ever for a worker, and none that runs is ended for its dispatch's sake:
on a real broker whose queues are deleted and whose connections are cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pika
import pytest
from sqlalchemy import func, select

from attune_executor import store
from attune_executor.tables import messages
from attune_mq import instantiate, setup_infrastructure
from attune_mq.payloads import (
    ExecutionCancelRequested,
    ExecutionDispatch,
    ExecutionStatus,
    WorkerRegistered,
)
from attune_mq.transactional import reading
from tests.executor.harness import (
    SHIPPED,
    Harness,
    enforcement,
    eventually,
    free_port,
    is_red,
    ready,
    running,
    settings_for,
)
from tests.messaging.proxy import Proxy

SOON: dict[str, Any] = {"dispatch_grace_s": 0.3, "worker_absence_s": 0.5}


@contextmanager
def quick(folder: Path, url: str, **more: Any) -> Iterator[Harness]:
    with running(settings_for(folder, url, SHIPPED, **{**SOON, **more})) as harness:
        yield harness


class Held:
    """What a worker does until it is let go."""

    def __init__(self) -> None:
        self._may_end = threading.Event()

    def __call__(self, _: ExecutionDispatch) -> ExecutionStatus:
        assert self._may_end.wait(60)
        return ExecutionStatus.COMPLETED

    def let_go(self) -> None:
        self._may_end.set()


@contextmanager
def consumed(url: str, queue: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """By somebody who takes nothing: to the executor its worker lives."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, lambda *_: None)
        yield channel


def register(harness: Harness, worker_id: int) -> None:
    """A worker that is known, with its queues, and of which nothing else is there."""
    setup_infrastructure(instantiate(harness.topology, "worker", worker_id=worker_id), harness.url)
    known = WorkerRegistered(
        worker_id=worker_id, name="w", runtimes=("shell",), registered_at=datetime.now(UTC)
    )
    with harness.publisher() as publisher:
        publisher.publish(known)


def delete_queue(harness: Harness, name: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(harness.url)) as connection:
        connection.channel().queue_delete(name)


def unsent(harness: Harness) -> int:
    query = select(func.count()).select_from(messages.outbox)
    with reading(harness.executor.engine) as tx:
        return int(tx.scalar(query) or 0)


def test_what_runs_outlives_its_dispatch_when_its_workers_connection_is_cut(
    tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTUNE_DISPATCH_TTL", "300ms")
    held = Held()
    with (
        quick(tmp_path, broker_url, worker_absence_s=600) as harness,
        closing(Proxy(broker_url)) as proxy,
        harness.worker(work=held, reports_running=True, url=proxy.url),
        harness.publisher() as publisher,
    ):
        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"running": 1})
        cut_until_the_dispatch_is_dead(harness, proxy)

        held.let_go()
        eventually(lambda: harness.executions() == {"completed": 1})


def cut_until_the_dispatch_is_dead(harness: Harness, proxy: Proxy) -> None:
    def is_dead() -> bool:
        with reading(harness.executor.engine) as tx:
            execution = store.get_execution(tx, 1)
        assert execution is not None
        assert execution.status is ExecutionStatus.RUNNING
        if execution.dispatch_died_at is None:
            proxy.cut()
        return execution.dispatch_died_at is not None

    eventually(is_dead)


def test_what_a_worker_ran_that_is_gone_is_abandoned_when_its_dispatch_has_died(
    tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTUNE_DISPATCH_TTL", "300ms")
    held = Held()
    with (
        quick(tmp_path, broker_url) as harness,
        ExitStack() as worker,
        harness.notifier(),
        harness.publisher() as publisher,
    ):
        proxy = Proxy(broker_url)
        worker.enter_context(harness.worker(work=held, reports_running=True, url=proxy.url))
        worker.callback(held.let_go)
        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"running": 1})
        proxy.close()  # and nothing listens there any more

        eventually(lambda: harness.executions() == {"abandoned": 1})
        harness.seen.until(lambda: len(harness.seen.notifications) == 1)


def test_an_execution_whose_workers_queue_is_deleted_is_given_to_another_worker(
    tmp_path: Path, broker_url: str
) -> None:
    with quick(tmp_path, broker_url) as harness, harness.publisher() as publisher:
        register(harness, 1)
        with consumed(harness.url, "worker.1.executions"):
            publisher.publish(enforcement(1))
            eventually(lambda: harness.executions() == {"scheduled": 1} and unsent(harness) == 0)
            delete_queue(harness, "worker.1.executions")

        with harness.worker(worker_id=2):
            eventually(lambda: harness.executions() == {"completed": 1})
        assert [one.worker_id for one in harness.seen.dispatches] == [2]


def test_without_another_worker_it_fails_after_its_attempts(
    tmp_path: Path, broker_url: str
) -> None:
    with (
        quick(tmp_path, broker_url, scheduling_attempts=3) as harness,
        harness.publisher() as publisher,
    ):
        register(harness, 1)
        with consumed(harness.url, "worker.1.executions"):
            publisher.publish(enforcement(1))
            eventually(lambda: harness.executions() == {"scheduled": 1})
            delete_queue(harness, "worker.1.executions")

        eventually(lambda: harness.executions() == {"failed": 1})


def test_a_dispatch_that_the_outbox_cannot_route_is_taken_back_and_goes_to_another_worker(
    tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the executor the worker lived a moment ago: its answer is from before the deletion."""
    monkeypatch.setattr("attune_executor.worker_liveness.FRESH_S", 3_600.0)
    with quick(tmp_path, broker_url) as harness, harness.publisher() as publisher:
        register(harness, 1)
        with consumed(harness.url, "worker.1.executions"):
            publisher.publish(enforcement(1))
            eventually(lambda: harness.executions() == {"scheduled": 1} and unsent(harness) == 0)
            delete_queue(harness, "worker.1.executions")
        publisher.publish(enforcement(2))  # while the answer about worker 1 is taken for fresh
        eventually(lambda: unsent(harness) > 0 and harness.executions().get("scheduled") == 2)
        monkeypatch.setattr("attune_executor.worker_liveness.FRESH_S", 0.0)

        with harness.worker(worker_id=2):
            eventually(lambda: harness.executions() == {"completed": 2})
            eventually(lambda: unsent(harness) == 0)
        with harness.worker(worker_id=1):
            publisher.publish(enforcement(3))
            eventually(lambda: harness.executions() == {"completed": 3})
        taken = [(one.execution_id, one.worker_id) for one in harness.seen.dispatches]
        assert sorted(taken) == [(1, 2), (2, 2), (3, 1)]


def test_a_dispatch_that_the_broker_lost_fails_its_execution_and_its_worker_is_told(
    tmp_path: Path, broker_url: str
) -> None:
    """The queue is there again, and consumed, but what was in it is not."""
    with (
        quick(tmp_path, broker_url, dispatch_limit_s=2, dispatch_grace_s=1) as harness,
        harness.publisher() as publisher,
    ):
        register(harness, 1)
        with consumed(harness.url, "worker.1.executions"):
            publisher.publish(enforcement(1))
            eventually(lambda: harness.executions() == {"scheduled": 1} and unsent(harness) == 0)
            delete_queue(harness, "worker.1.executions")

            with harness.worker(worker_id=1):
                eventually(lambda: harness.executions() == {"failed": 1})
                harness.seen.until(lambda: len(harness.seen.cancels) == 1)
                assert harness.seen.dispatches == []


def test_a_cancellation_of_what_lies_in_a_queue_that_is_deleted_is_carried_out(
    tmp_path: Path, broker_url: str
) -> None:
    with quick(tmp_path, broker_url) as harness, harness.publisher() as publisher:
        register(harness, 1)
        with consumed(harness.url, "worker.1.executions"):
            publisher.publish(enforcement(1))
            eventually(lambda: harness.executions() == {"scheduled": 1})
            delete_queue(harness, "worker.1.executions")
            delete_queue(harness, "worker.1.cancel")
        publisher.publish(ExecutionCancelRequested(execution_id=1, worker_id=1))

        eventually(lambda: harness.executions() == {"cancelled": 1})
        eventually(lambda: unsent(harness) == 0)


def test_old_message_ids_are_forgotten_at_the_start(tmp_path: Path, broker_url: str) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED)
    with running(settings) as harness:
        inbox = messages.inbox
        old = {"scope": "", "message_id": "old", "consumer": "c", "accepted_at_us": 0}
        with harness.executor.engine.begin() as tx:
            tx.execute(inbox.insert().values(old))

    with running(settings) as harness:

        def remembered() -> int:
            with reading(harness.executor.engine) as tx:
                return int(tx.scalar(select(func.count()).select_from(inbox)) or 0)

        eventually(lambda: remembered() == 0)


def test_a_watchdog_that_does_not_run_is_seen(tmp_path: Path, broker_url: str) -> None:
    with quick(tmp_path, broker_url, health_port=free_port()) as harness:
        eventually(lambda: ready(harness))
        harness.executor.watchdog.stop(10)

        assert is_red(harness, "dispatch watchdog")

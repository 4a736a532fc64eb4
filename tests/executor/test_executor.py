"""The executor on a real broker and a real database, on both topologies of the system."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pika
import pytest

from attune_mq import Envelope, Route, instantiate, load_topology
from attune_mq.broker import QueueInspector
from attune_mq.payloads import (
    ExecutionCancelRequested,
    ExecutionDispatch,
    ExecutionRequested,
    ExecutionStatus,
    ExecutionStatusChanged,
    Payload,
)
from tests.executor.harness import (
    ROOT,
    SHIPPED,
    Harness,
    dead_letter_queue,
    enforcement,
    eventually,
    running,
    settings_for,
)

LATER = ROOT / "examples" / "later-topology.yaml"


@pytest.fixture
def harness(tmp_path: Path, broker_url: str) -> Iterator[Harness]:
    with running(settings_for(tmp_path, broker_url, SHIPPED)) as started:
        yield started


@pytest.mark.parametrize("topology", [SHIPPED, LATER], ids=["original", "later"])
def test_enforcements_become_finished_executions_and_nothing_but_the_yaml_differs(
    tmp_path: Path, broker_url: str, topology: Path
) -> None:
    with (
        running(settings_for(tmp_path, broker_url, topology)) as harness,
        harness.worker(),
        harness.publisher() as publisher,
    ):
        publisher.publish_many(enforcement(number) for number in range(20))

        eventually(lambda: harness.executions() == {"completed": 20})
        assert harness.enforcements() == {"processed": 20}
        inspector = QueueInspector(broker_url)
        for queue in harness.topology.queues:
            if f"{queue}.dlq" in harness.topology.queues:
                assert inspector.message_count(dead_letter_queue(harness.topology, queue)) == 0
        inspector.close()


def test_three_components_compete_on_one_queue_each_with_a_tag_of_its_own(harness: Harness) -> None:
    statuses = harness.executor.service.consumers

    eventually(lambda: all(one.state == "consuming" for one in harness.executor.service.consumers))
    assert {one.tag for one in statuses} == {
        "executor.enforcement",
        "executor.scheduler",
        "executor.manager",
    }
    assert {one.queue for one in statuses} == {"attune.executions.queue"}


def test_a_finished_execution_is_notified_once(harness: Harness) -> None:
    with harness.worker(), harness.notifier(), harness.publisher() as publisher:
        publisher.publish_many(enforcement(number) for number in range(5))

        harness.seen.until(lambda: len(harness.seen.notifications) == 5)
        told = {(one.entity_type, one.activity) for one in harness.seen.notifications}
        assert told == {("execution", "completed")}
        assert len({one.entity for one in harness.seen.notifications}) == 5


def test_an_enforcement_that_comes_twice_makes_one_execution(harness: Harness) -> None:
    """The same message again, and the same enforcement in another message."""
    with harness.worker(), harness.publisher() as publisher:
        again = Envelope.of(enforcement(1))
        publisher.publish_many([again, again, enforcement(1), enforcement(2)])

        eventually(lambda: harness.executions() == {"completed": 2})
        assert len(harness.seen.dispatches) == 2


def test_an_action_that_fails_fails_its_execution(harness: Harness) -> None:
    with (
        harness.worker(work=lambda _: ExecutionStatus.FAILED),
        harness.publisher() as publisher,
    ):
        publisher.publish(enforcement(1))

        eventually(lambda: harness.executions() == {"failed": 1})


def test_an_enforcement_of_a_disabled_rule_makes_none(harness: Harness) -> None:
    with harness.publisher() as publisher:
        publisher.publish(enforcement(1, "demo.off"))

        eventually(lambda: harness.enforcements() == {"disabled": 1})
        assert harness.executions() == {}


def test_an_enforcement_of_an_unknown_rule_is_dead_lettered_with_the_reason(
    harness: Harness,
) -> None:
    with harness.publisher() as publisher:
        publisher.publish(enforcement(1, "demo.gone"))

    connection = pika.BlockingConnection(pika.URLParameters(harness.url))
    queue = dead_letter_queue(harness.topology, "executions")
    _, properties, _ = next(connection.channel().consume(queue, inactivity_timeout=20))
    connection.close()
    assert properties is not None
    assert properties.headers is not None
    assert properties.headers["x-attune-reason"] == "rejected"
    assert "no rule 'demo.gone'" in str(properties.headers["x-attune-error-message"])


def test_without_a_worker_the_execution_fails_after_its_last_attempt(
    tmp_path: Path, broker_url: str
) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, scheduling_attempts=3)
    with running(settings) as harness, harness.notifier(), harness.publisher() as publisher:
        publisher.publish(enforcement(1))

        harness.seen.until(lambda: bool(harness.seen.notifications))
        assert harness.executions() == {"failed": 1}


def test_a_worker_that_comes_late_still_gets_the_execution(harness: Harness) -> None:
    with harness.publisher() as publisher:
        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"scheduling": 1})

    with harness.worker():
        eventually(lambda: harness.executions() == {"completed": 1})


def test_a_worker_without_a_consumer_gets_nothing(harness: Harness) -> None:
    """It has registered, and its queue is there: but nobody consumes it."""
    with harness.worker(worker_id=1):
        pass
    with harness.worker(worker_id=2), harness.publisher() as publisher:
        publisher.publish_many(enforcement(number) for number in range(4))

        eventually(lambda: harness.executions() == {"completed": 4})
        assert {dispatch.worker_id for dispatch in harness.seen.dispatches} == {2}


@pytest.mark.parametrize("topology", [SHIPPED, LATER], ids=["original", "later"])
def test_a_dispatch_that_expires_in_a_workers_queue_fails_its_execution(
    tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch, topology: Path
) -> None:
    monkeypatch.setenv("ATTUNE_DISPATCH_TTL", "300ms")
    busy = threading.Event()

    def never(_: ExecutionDispatch) -> ExecutionStatus:
        busy.wait(30)
        return ExecutionStatus.COMPLETED

    with (
        running(settings_for(tmp_path, broker_url, topology)) as harness,
        harness.worker(work=never),
        harness.publisher() as publisher,
    ):
        publisher.publish_many(enforcement(number) for number in range(10))

        # Of concurrency 4 and prefetch 6 the worker holds six; four expire behind them.
        eventually(lambda: harness.executions().get("failed", 0) == 4)
        busy.set()
        eventually(lambda: harness.executions() == {"failed": 4, "completed": 6})


def test_what_no_worker_has_is_cancelled_at_once(harness: Harness) -> None:
    with harness.publisher() as publisher:
        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"scheduling": 1})
        publisher.publish(ExecutionCancelRequested(execution_id=1, worker_id=0))

        eventually(lambda: harness.executions() == {"cancelled": 1})


def test_what_a_worker_has_is_cancelled_by_its_worker(harness: Harness) -> None:
    asked = threading.Event()

    def cancelled(_: ExecutionDispatch) -> ExecutionStatus:
        assert asked.wait(30)
        return ExecutionStatus.CANCELLED

    with harness.worker(work=cancelled), harness.publisher() as publisher:
        publisher.publish(enforcement(1))
        harness.seen.until(lambda: bool(harness.seen.dispatches))
        execution_id = harness.seen.dispatches[0].execution_id
        publisher.publish(ExecutionCancelRequested(execution_id=execution_id, worker_id=1))
        harness.seen.until(lambda: bool(harness.seen.cancels))
        asked.set()

        eventually(lambda: harness.executions() == {"cancelled": 1})


def test_status_that_is_late_changes_nothing(harness: Harness) -> None:
    with harness.worker(), harness.publisher() as publisher:
        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"completed": 1})
        late = ExecutionStatusChanged(
            execution_id=1,
            action_ref="core.echo",
            previous_status=ExecutionStatus.SCHEDULED,
            new_status=ExecutionStatus.RUNNING,
            changed_at=datetime.now(UTC),
        )
        envelope = Envelope.of(late)
        publisher.publish(envelope)
        publisher.publish(enforcement(2))

        eventually(lambda: harness.executions() == {"completed": 2})


def test_a_dispatch_that_did_not_die_is_no_business_of_the_executor(harness: Harness) -> None:
    stray = ExecutionDispatch(
        execution_id=1,
        worker_id=1,
        action_ref="core.echo",
        scheduled_attempt_updated_at=datetime.now(UTC),
    )
    inspector = QueueInspector(harness.url)
    with harness.publisher() as publisher:
        publisher.publish(stray)

        queue = dead_letter_queue(harness.topology, "executions")
        eventually(lambda: inspector.message_count(queue) == 1)
    inspector.close()


@pytest.mark.parametrize(
    "stray",
    [
        ExecutionRequested(execution_id=99, action_ref="core.echo"),
        ExecutionCancelRequested(execution_id=99, worker_id=1),
        ExecutionStatusChanged(
            execution_id=99,
            action_ref="core.echo",
            previous_status=ExecutionStatus.SCHEDULED,
            new_status=ExecutionStatus.RUNNING,
            changed_at=datetime.now(UTC),
        ),
    ],
    ids=lambda stray: stray.message_type,
)
def test_a_message_about_an_execution_that_is_not_known_is_dead_lettered_not_swallowed(
    harness: Harness, stray: Payload
) -> None:
    inspector = QueueInspector(harness.url)
    with harness.publisher() as publisher:
        publisher.publish(stray)

        queue = dead_letter_queue(harness.topology, "executions")
        eventually(lambda: inspector.message_count(queue) == 1)
    inspector.close()


def test_on_the_later_topology_the_dead_letters_of_components_rest_for_people(
    tmp_path: Path, broker_url: str
) -> None:
    """They come by attune.dlx.queue, whose consumer fails expired dispatches and takes no more."""
    inspector = QueueInspector(broker_url)
    with (
        running(settings_for(tmp_path, broker_url, LATER)) as harness,
        harness.publisher() as publisher,
    ):
        publisher.publish(enforcement(1, "demo.gone"))

        eventually(lambda: inspector.message_count("attune.dlx.queue.dlq") == 1)
        assert harness.enforcements() == {}
    inspector.close()


def test_the_conversation_goes_on_under_one_correlation_id(harness: Harness) -> None:
    correlation_id = str(uuid4())
    connection = pika.BlockingConnection(pika.URLParameters(harness.url))
    channel = connection.channel()
    channel.queue_declare("spy", exclusive=True)
    instance = instantiate(harness.topology, "worker", worker_id=1)
    with harness.worker(), harness.publisher() as publisher:
        route: Route = instance.route("ExecutionRequested")
        channel.queue_bind("spy", route.exchange, route.routing_key)
        publisher.publish(enforcement(1), correlation_id=correlation_id)

        _, properties, _ = next(channel.consume("spy", inactivity_timeout=20))
    connection.close()
    assert properties is not None
    assert properties.correlation_id == correlation_id


def test_the_shipped_topology_and_the_later_one_have_the_keys_that_the_executor_uses() -> None:
    for file in (SHIPPED, LATER):
        worker = instantiate(load_topology(file, environment={}), "worker", worker_id=1)
        assert worker.queues["executions"].name == "worker.1.executions"
        assert worker.route("ExecutionCancelRequested").routing_key.endswith("worker.1")

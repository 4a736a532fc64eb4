"""The worker of the examples: an action runs once, and is stopped, or not begun, when asked."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from attune_executor import store
from attune_mq import Envelope, Service, instantiate
from attune_mq.payloads import ExecutionCancelRequested, ExecutionDispatch
from attune_mq.transactional import reading
from tests.executor.harness import (
    ROOT,
    SHIPPED,
    Harness,
    enforcement,
    eventually,
    running,
    settings_for,
)


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worker", ROOT / "examples" / "worker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def working(harness: Harness, entry: str) -> Iterator[Service]:
    """A worker whose one action is ``entry``, in a shell."""
    actions: dict[str, Any] = {"core.echo": {"id": 1, "runtime": "shell", "entry": entry}}
    service = Service("worker", harness.topology, harness.url, family="worker", worker_id=1)
    worker = example()
    vars(worker)["REPEAT_S"] = 0.1
    service.add_background_task(worker.Worker(service, 1, actions))
    service.start()
    yield service
    service.stop(5)


@pytest.fixture
def harness(tmp_path: Path, broker_url: str) -> Iterator[Harness]:
    with running(settings_for(tmp_path, broker_url, SHIPPED)) as started:
        yield started


def handled(service: Service, tag: str) -> int:
    return sum(one.handled for one in service.consumers if one.tag == tag)


def test_a_cancellation_that_comes_before_its_dispatch_keeps_the_action_from_beginning(
    harness: Harness, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    with working(harness, f"touch {begun}") as service, harness.publisher() as publisher:
        instance = instantiate(harness.topology, "worker", worker_id=1)
        publisher.publish(
            ExecutionCancelRequested(execution_id=1, worker_id=1),
            route=instance.route("ExecutionCancelRequested"),
        )
        eventually(lambda: handled(service, "worker-1-cancel") == 1)

        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"cancelled": 1})
        assert not begun.exists()


def test_a_dispatch_that_comes_again_while_its_action_runs_does_not_begin_it_again(
    harness: Harness, tmp_path: Path
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    entry = f"echo begun >> {begun}; while [ ! -e {go} ]; do sleep 0.02; done"
    with working(harness, entry) as service, harness.publisher() as publisher:
        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"running": 1})
        eventually(begun.exists)
        with reading(harness.executor.engine) as tx:
            execution = store.get_execution(tx, 1)
        assert execution is not None
        assert execution.scheduled_at is not None
        again = Envelope.of(
            ExecutionDispatch(
                execution_id=1,
                worker_id=1,
                action_ref="core.echo",
                scheduled_attempt_updated_at=execution.scheduled_at,
            )
        )
        route = instantiate(harness.topology, "worker", worker_id=1).route("ExecutionRequested")
        publisher.publish(again, route=route)
        go.touch()

        eventually(lambda: handled(service, "worker-1") == 2)
        assert begun.read_text() == "begun\n"
        eventually(lambda: harness.executions() == {"completed": 1})


def test_an_action_that_ends_well_although_it_was_to_be_cancelled_has_completed(
    harness: Harness, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    entry = f"trap 'exit 0' TERM; touch {begun}; while true; do sleep 0.02; done"
    with working(harness, entry), harness.publisher() as publisher:
        publisher.publish(enforcement(1))
        eventually(lambda: harness.executions() == {"running": 1} and begun.exists())
        publisher.publish(ExecutionCancelRequested(execution_id=1, worker_id=1))

        eventually(lambda: harness.executions() == {"completed": 1})


def test_an_action_that_runs_is_reported_again_and_again(harness: Harness, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with (
        working(harness, f"while [ ! -e {go} ]; do sleep 0.02; done; echo done"),
        harness.publisher() as publisher,
    ):
        publisher.publish(enforcement(1))

        def is_heard_of_again() -> bool:
            with reading(harness.executor.engine) as tx:
                execution = store.get_execution(tx, 1)
            return (
                execution is not None
                and execution.started_at is not None
                and execution.updated_at > execution.started_at
            )

        eventually(is_heard_of_again)
        go.touch()
        eventually(lambda: harness.executions() == {"completed": 1})
        with reading(harness.executor.engine) as tx:
            execution = store.get_execution(tx, 1)
        assert execution is not None
        assert execution.result["stdout"] == "done\n"

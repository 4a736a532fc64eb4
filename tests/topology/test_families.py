"""Families are declared once and instantiated with their parameters."""

from __future__ import annotations

import pytest

from attune_mq.errors import InvalidInput
from attune_mq.topology.declarations import queue_arguments
from attune_mq.topology.expansion import expand
from attune_mq.topology.families import instantiate
from attune_mq.topology.model import Route, UnknownName
from attune_mq.topology_file import load_topology

SHIPPED = load_topology("topology.yaml", environment={})


def test_an_instance_has_the_familys_names_with_the_parameters_in_place() -> None:
    worker = instantiate(SHIPPED, "worker", worker_id=7)

    assert [queue.name for queue in worker.queues.values()] == [
        "worker.7.executions",
        "worker.7.cancel",
    ]
    assert list(worker.consumers) == ["worker-7", "worker-7-cancel"]
    assert worker.consumer("worker-7").prefetch_count == 6


def test_an_instance_has_the_familys_route_and_otherwise_the_files() -> None:
    worker = instantiate(SHIPPED, "worker", worker_id=7)

    dispatch = Route("attune.executions", "execution.dispatch.worker.7")
    assert worker.route("ExecutionRequested") == dispatch
    assert worker.route("ExecutionCompleted") == SHIPPED.route("ExecutionCompleted")


def test_an_instance_expands_like_any_topology() -> None:
    worker = expand(instantiate(SHIPPED, "worker", worker_id=7))

    assert queue_arguments(worker, worker.queues["executions"]) == {
        "x-queue-type": "quorum",
        "x-message-ttl": 300_000,
        "x-overflow": "reject-publish",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "attune.executions",
        "x-dead-letter-routing-key": "execution",
        "x-dead-letter-strategy": "at-least-once",
    }
    assert worker.queues["cancel.dlq"].name == "worker.7.cancel.dlq"


def test_an_instance_of_an_expanded_topology_is_the_same() -> None:
    of_expanded = instantiate(expand(SHIPPED), "worker", worker_id=7)

    assert set(expand(of_expanded).queues.values()) == set(
        expand(instantiate(SHIPPED, "worker", worker_id=7)).queues.values()
    )


def test_what_an_instance_has_points_at_the_family_in_the_file() -> None:
    worker = instantiate(SHIPPED, "worker", worker_id=7)

    where = worker.where("queues", "executions", "ttl")
    assert where == SHIPPED.where("families", "worker", "queues", "executions", "ttl")
    assert where.path == "families.worker.queues.executions.ttl"


def test_an_unknown_family_names_those_there_are() -> None:
    with pytest.raises(UnknownName, match="expected an entry 'wroker', found only: worker"):
        instantiate(SHIPPED, "wroker", worker_id=7)


@pytest.mark.parametrize("parameters", [{}, {"id": 7}, {"worker_id": 7, "more": 1}])
def test_the_parameters_must_be_the_familys(parameters: dict[str, int]) -> None:
    with pytest.raises(UnknownName, match="expected the parameters worker_id"):
        instantiate(SHIPPED, "worker", **parameters)


def test_a_parameter_that_makes_a_name_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="use shorter parameters"):
        instantiate(SHIPPED, "worker", worker_id="7" * 240)

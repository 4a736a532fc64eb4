"""Which instances of families a broker has, by the names of its queues."""

from __future__ import annotations

from attune_mq import Topology, load_topology, parse_topology
from attune_mq.topology.families import including_all, instances_among

SHIPPED = load_topology("topology.yaml", environment={})
GREEDY = parse_topology(
    """
version: 1
dead_letter: {exchange: ""}
queues: {events: {name: worker.events}}
families:
  worker: {parameters: [id], queues: {own: {name: "worker.{id}", retry: {backoff: [1s]}}}}
""",
    file="topology.yaml",
    environment={},
)
"""Its family could have any queue that begins with ``worker.``."""


def named(queues: list[str], topology: Topology = SHIPPED) -> list[str]:
    return [str(instance) for instance in instances_among(topology, queues)]


def test_an_instance_is_there_once_when_one_of_its_queues_is() -> None:
    queues = ["worker.7.cancel", "worker.7.executions", "worker.b.cancel", "attune.events.queue"]

    assert named(queues) == ["worker (worker_id=7)", "worker (worker_id=b)"]


def test_what_is_left_of_an_instance_is_an_instance() -> None:
    assert named(["worker.7.cancel.dlq"]) == ["worker (worker_id=7)"]


def test_queues_that_the_library_adds_are_no_instances_of_their_own() -> None:
    queues = ["worker.7", "worker.7.dlq", "worker.7.retry.1s", "worker.events", "worker.events.dlq"]

    assert named(queues, GREEDY) == ["worker (id=7)"]


def test_without_families_there_are_none() -> None:
    assert instances_among(parse_topology("version: 1", file="f", environment={}), ["a"]) == ()


def test_a_topology_can_include_several_instances() -> None:
    instances = instances_among(SHIPPED, ["worker.7.cancel", "worker.8.cancel"])

    names = {queue.name for queue in including_all(SHIPPED, instances).queues.values()}

    assert {"attune.events.queue", "worker.7.cancel.dlq", "worker.8.executions"} <= names

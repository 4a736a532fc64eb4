"""The example files say in full what the system they describe has, in the broker's names."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from attune_mq import Topology, expand, instantiate, parse_topology
from attune_mq.topology import ConsumerSpec, DeadLetterTo

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def later() -> Topology:
    file = EXAMPLES / "later-topology.yaml"
    return parse_topology(file.read_text("utf-8"), file=file.name)


class Wired(NamedTuple):
    """A queue with where it hangs, and its one consumer."""

    exchange: str
    keys: tuple[str, ...]
    tag: str
    prefetch: int


LIFECYCLE = (
    "rule.created",
    "rule.enabled",
    "rule.disabled",
    "rule.deleted",
    "pack.registered",
    "pack.deleted",
)
QUEUES = {
    "attune.executor.events.queue": Wired(
        "attune.events", ("event.created",), "executor.event", 10
    ),
    "attune.enforcements.queue": Wired(
        "attune.executions", ("enforcement.#",), "executor.enforcement", 10
    ),
    "attune.execution.requests.queue": Wired(
        "attune.executions", ("execution.requested",), "executor.scheduler", 10
    ),
    "attune.execution.status.queue": Wired(
        "attune.executions", ("execution.status.changed",), "executor.manager", 10
    ),
    "attune.execution.completed.queue": Wired(
        "attune.executions", ("execution.completed",), "executor.completion", 10
    ),
    "attune.inquiry.responses.queue": Wired(
        "attune.executions", ("inquiry.responded",), "executor.inquiry", 10
    ),
    "attune.pack.tests.queue": Wired(
        "attune.executions", ("pack.test.requested",), "executor.packtest", 5
    ),
    "attune.rules.lifecycle.queue": Wired("attune.events", LIFECYCLE, "sensor-rule-lifecycle", 10),
    "attune.dlx.queue": Wired("attune.dlx", ("",), "executor.dlq", 10),
}
WORKER_QUEUES = {
    "worker.7.executions": Wired(
        "attune.executions", ("execution.dispatch.worker.7",), "worker-7", 6
    ),
    "worker.7.packs": Wired(
        "attune.events", ("pack.registered", "pack.deleted"), "worker-7-packs", 5
    ),
    "worker.7.cancel": Wired(
        "attune.executions", ("execution.cancel.worker.7",), "worker-7-cancel", 10
    ),
    "worker.7.packtests": Wired(
        "attune.executions", ("pack.test.dispatch.worker.7",), "worker-7-packtests", 1
    ),
}
ROUTES = {
    "EventCreated": ("attune.events", "event.created"),
    "EnforcementCreated": ("attune.executions", "enforcement.created"),
    "ExecutionRequested": ("attune.executions", "execution.requested"),
    "ExecutionStatusChanged": ("attune.executions", "execution.status.changed"),
    "ExecutionCompleted": ("attune.executions", "execution.completed"),
    "ExecutionCancelRequested": ("attune.executions", "execution.cancel"),
    "WorkerRegistered": ("attune.executions", "execution.requested"),
    "InquiryCreated": ("attune.executions", "inquiry.created"),
    "InquiryResponded": ("attune.executions", "inquiry.responded"),
    "NotificationCreated": ("attune.notifications", "notification.created"),
    "RuleCreated": ("attune.events", "rule.created"),
    "RuleEnabled": ("attune.events", "rule.enabled"),
    "RuleDisabled": ("attune.events", "rule.disabled"),
    "RuleDeleted": ("attune.events", "rule.deleted"),
    "PackRegistered": ("attune.events", "pack.registered"),
    "PackDeleted": ("attune.events", "pack.deleted"),
    "PackTestRequested": ("attune.executions", "pack.test.requested"),
    "ActionChanged": ("attune.metadata", "metadata.action.changed"),
    "TriggerChanged": ("attune.metadata", "metadata.trigger.changed"),
    "RuntimeChanged": ("attune.metadata", "metadata.runtime.changed"),
    "PackChanged": ("attune.metadata", "metadata.pack.changed"),
    "PermissionSetChanged": ("attune.metadata", "metadata.permission_set.changed"),
    "IdentityAuthorizationChanged": (
        "attune.metadata",
        "metadata.identity_authorization.changed",
    ),
}


def wired(topology: Topology) -> dict[str, Wired]:
    """The queues with a name that somebody consumes."""
    by_queue: dict[str, tuple[str, ConsumerSpec]] = {}
    for tag, spec in topology.consumers.items():
        assert spec.queue not in by_queue, f"two consumers of {spec.queue}"
        by_queue[spec.queue] = (tag, spec)
    found = {}
    for key, queue in topology.queues.items():
        bindings = [
            each
            for each in topology.bindings
            if each.destination == key and each.destination_type == "queue"
        ]
        if queue.name and key in by_queue:
            (source,) = {topology.exchange_name(each.source) for each in bindings}
            keys = tuple(routing_key for each in bindings for routing_key in each.keys)
            tag, spec = by_queue[key]
            found[queue.name] = Wired(source, keys, tag, spec.prefetch_count)
    return found


def test_the_later_topology_has_its_exchanges(later: Topology) -> None:
    assert {exchange.name: exchange.type for exchange in later.exchanges.values()} == {
        "attune.events": "topic",
        "attune.executions": "topic",
        "attune.metadata": "topic",
        "attune.notifications": "fanout",
        "attune.dlx": "fanout",
    }


def test_the_later_topology_has_its_nine_queues_each_with_a_consumer(later: Topology) -> None:
    assert wired(later) == QUEUES


def test_a_worker_of_the_later_topology_has_its_four_queues(later: Topology) -> None:
    worker = instantiate(later, "worker", worker_id=7)

    assert wired(worker) == WORKER_QUEUES
    assert {queue.name: queue.ttl_ms for queue in worker.queues.values() if queue.ttl_ms} == {
        "worker.7.executions": 5 * 60 * 1000
    }


def test_listeners_to_metadata_have_a_queue_each_that_the_server_names(later: Topology) -> None:
    listening = [queue for queue in later.queues.values() if queue.name == ""]

    assert listening
    assert all(queue.exclusive and queue.auto_delete for queue in listening)
    for key, queue in later.queues.items():
        if queue.name == "":
            (binding,) = [each for each in later.bindings if each.destination == key]
            assert binding.source == "metadata"
            assert len(binding.keys) > 1


def test_the_later_topology_publishes_every_type_where_the_wire_says(later: Topology) -> None:
    assert {name: later.route(name)[:2] for name in later.messages} == ROUTES


def test_dead_letters_of_the_later_topology_share_one_queue_that_has_its_own(
    later: Topology,
) -> None:
    queues = {queue.name: queue for queue in expand(later).queues.values()}

    for name in QUEUES.keys() - {"attune.dlx.queue"}:
        assert queues[name].dead_letter == DeadLetterTo(to="dlx")
    assert queues["attune.dlx.queue"].dead_letter == DeadLetterTo(
        to="", routing_key="attune.dlx.queue.dlq"
    )
    assert queues["attune.dlx.queue.dlq"].ttl_ms == 24 * 60 * 60 * 1000


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*topology*.yaml")), ids=lambda f: f.name)
def test_an_example_needs_no_variable_of_the_environment(file: Path) -> None:
    assert parse_topology(file.read_text("utf-8"), environment={}).version == 1

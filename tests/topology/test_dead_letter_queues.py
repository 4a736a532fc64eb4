"""Which queue holds whose dead letters."""

from __future__ import annotations

import pytest

from attune_mq import Route, load_topology, parse_topology
from attune_mq.errors import InvalidInput
from attune_mq.topology import UnknownName
from attune_mq.topology.dead_letter_queues import DeadLetterQueues, DeadLetterRoute

SHIPPED = DeadLetterQueues(load_topology("topology.yaml", environment={}))
LATER = DeadLetterQueues(load_topology("examples/later-topology.yaml", environment={}))


def of(text: str) -> DeadLetterQueues:
    topology = parse_topology(f"version: 1\n{text}", file="topology.yaml", environment={})
    return DeadLetterQueues(topology)


def test_each_queue_has_the_one_that_the_library_makes_for_it() -> None:
    assert SHIPPED.routes == tuple(
        DeadLetterRoute(f"attune.{name}.queue", f"attune.{name}.queue.dlq")
        for name in ("events", "executions", "notifications")
    )


@pytest.mark.parametrize(
    "name",
    [
        "executions",
        "attune.executions.queue",
        "executions.dlq",
        "attune.executions.queue.dlq",
    ],
)
def test_it_is_found_by_key_and_by_name_of_either_queue(name: str) -> None:
    assert SHIPPED.find(name).name == "attune.executions.queue.dlq"


@pytest.mark.parametrize("name", ["worker.7.cancel", "worker.7.cancel.dlq"])
def test_it_is_found_for_an_instance_of_a_family_with_the_routes_of_that_instance(
    name: str,
) -> None:
    found = SHIPPED.find(name)

    assert found.name == "worker.7.cancel.dlq"
    dispatch = Route("attune.executions", "execution.dispatch.worker.7")
    assert found.topology.route("ExecutionRequested") == dispatch


def test_a_dead_letter_queue_is_not_taken_for_that_of_an_instance_with_an_odd_name() -> None:
    queues = of("""
dead_letter: {exchange: ""}
families:
  worker: {parameters: [id], queues: {own: {name: "worker.{id}"}}}
""")

    assert queues.find("worker.7.dlq").name == "worker.7.dlq"
    assert queues.find("worker.7").name == "worker.7.dlq"


def test_a_queue_that_several_share_is_the_one_of_each_of_them() -> None:
    shared = [route.queue for route in LATER.routes if route[1] == "attune.dlx.queue"]

    assert "attune.enforcements.queue" in shared
    assert len(shared) == 8
    assert LATER.find("enforcements").name == "attune.dlx.queue"
    assert LATER.find("worker.7.executions").name == "attune.dlx.queue"


def test_a_dead_letter_queue_with_one_of_its_own_stands_for_itself() -> None:
    assert LATER.find("dead_letters").name == "attune.dlx.queue"
    assert LATER.find("attune.dlx.queue.dlq").name == "attune.dlx.queue.dlq"
    assert LATER.routes[-1] == DeadLetterRoute("attune.dlx.queue", "attune.dlx.queue.dlq")


def test_a_queue_to_which_dead_letters_go_back_to_be_handled_is_none() -> None:
    with pytest.raises(InvalidInput, match=r"go to attune\.executions\.queue, where other"):
        SHIPPED.find("worker.7.executions")


def test_retry_queues_are_none_and_have_none() -> None:
    queues = of("""
dead_letter: {exchange: ""}
queues:
  work: {name: work, retry: {backoff: [1s]}}
""")

    assert queues.routes == (DeadLetterRoute("work", "work.dlq"),)


def test_what_is_bound_to_another_exchange_too_is_none() -> None:
    text = """
exchanges: {in: {name: in, type: direct}, dlx: {name: dlx, type: fanout}}
queues:
  waiting: {name: waiting, ttl: 1s, dead_letter: {to: dlx}}
  work: {name: work}
bindings:
  - {source: dlx, destination: work}
"""

    assert of(text).find("waiting").name == "work"
    with pytest.raises(InvalidInput, match="it has no dead letter queue"):
        of(text + "  - {source: in, destination: work, routing_key: k}\n").find("waiting")


def test_dead_letters_that_keep_their_key_are_followed_with_the_keys_of_the_queue() -> None:
    queues = of("""
exchanges: {in: {name: in, type: direct}, dlx: {name: dlx, type: direct}}
queues:
  a: {name: a, dead_letter: {to: dlx}}
  dead: {name: dead}
  other: {name: other}
bindings:
  - {source: in, destination: a, routing_key: alpha}
  - {source: dlx, destination: dead, routing_key: alpha}
  - {source: dlx, destination: other, routing_key: beta}
""")

    assert queues.routes == (DeadLetterRoute("a", "dead"),)


def test_of_several_one_has_to_be_named() -> None:
    queues = of("""
exchanges: {dlx: {name: dlx, type: fanout}}
queues:
  work: {name: work, dead_letter: {to: dlx}}
  one: {name: one}
  two: {name: two}
bindings:
  - {source: dlx, destination: one}
  - {source: dlx, destination: two}
""")

    with pytest.raises(InvalidInput, match="name one: one, two"):
        queues.find("work")
    assert queues.find("two").name == "two"


def test_a_queue_without_dead_letters_is_said_to_lose_them() -> None:
    with pytest.raises(InvalidInput, match="its dead letters are lost"):
        of("queues: {work: {name: work}}").find("work")


@pytest.mark.parametrize("name", ["exections", "worker.7.exections", "api_metadata"])
def test_what_the_file_does_not_have_is_unknown(name: str) -> None:
    with pytest.raises(UnknownName, match="expected the key or the name of a queue"):
        SHIPPED.find(name)
    with pytest.raises(UnknownName, match="did you mean 'executions'"):
        SHIPPED.find("exections")


def test_the_limit_of_deliveries_is_the_files() -> None:
    queues = of("""
dead_letter: {to: dlx}
exchanges: {dlx: {name: dlx, type: fanout}}
queues:
  work: {name: work}
  dead: {name: dead, type: quorum, delivery_limit: 4, dead_letter: false}
bindings: [{source: dlx, destination: dead}]
""")

    assert queues.find("work").delivery_limit == 4
    assert SHIPPED.find("executions").delivery_limit is None

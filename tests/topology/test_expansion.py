"""What the library adds: dead letter queues, retry queues, and the way to them."""

from __future__ import annotations

from attune_mq.topology.declarations import queue_arguments
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import Binding, Retry

TWO_QUEUES = """\
version: 1
dead_letter: {exchange: dlx}
exchanges:
  dlx: {name: dlx, type: fanout}
queues:
  a: {name: queue.a}
  b: {name: queue.b}
"""

DAY_MS = 24 * 60 * 60 * 1000


def expanded(text: str) -> ExpandedTopology:
    return expand(parse_topology(text, file="t.yaml"))


def test_each_main_queue_gets_a_dead_letter_queue_that_keeps_for_a_day() -> None:
    topology = expanded(TWO_QUEUES)

    assert list(topology.queues) == ["a", "a.dlq", "b", "b.dlq"]
    assert queue_arguments(topology, topology.queues["a.dlq"]) == {"x-message-ttl": DAY_MS}
    assert queue_arguments(topology, topology.queues["a"]) == {
        "x-dead-letter-exchange": "dlx",
        "x-dead-letter-routing-key": "queue.a",
    }


def test_behind_a_fanout_each_dead_letter_queue_is_bound_by_the_key_of_its_own_queue() -> None:
    topology = expanded(TWO_QUEUES)

    assert topology.exchanges["dlx.direct"].name == "dlx.direct"
    assert topology.exchanges["dlx.direct"].type == "direct"
    assert set(topology.bindings) == {
        Binding(source="dlx.direct", destination="a.dlq", routing_key="queue.a"),
        Binding(source="dlx.direct", destination="b.dlq", routing_key="queue.b"),
        Binding(source="dlx", destination="dlx.direct", destination_type="exchange"),
    }


def test_a_direct_dead_letter_exchange_needs_nothing_behind_it() -> None:
    topology = expanded(TWO_QUEUES.replace("fanout", "direct"))

    assert list(topology.exchanges) == ["dlx"]
    assert topology.bindings[0] == Binding(source="dlx", destination="a.dlq", routing_key="queue.a")


def test_by_the_default_exchange_a_dead_letter_goes_straight_to_its_queue() -> None:
    topology = expanded(TWO_QUEUES.replace("{exchange: dlx}", '{exchange: "", ttl: 1h}'))

    assert topology.bindings == ()
    assert queue_arguments(topology, topology.queues["a"]) == {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "queue.a.dlq",
    }
    assert topology.queues["a.dlq"].ttl_ms == DAY_MS / 24


def test_a_queue_can_send_its_dead_letters_elsewhere_or_nowhere() -> None:
    topology = expanded(
        TWO_QUEUES.replace("queue.a}", "queue.a, dead_letter: {to: dlx, routing_key: k}}").replace(
            "queue.b}", "queue.b, dead_letter: false}"
        )
    )

    assert list(topology.queues) == ["a", "b"]
    assert queue_arguments(topology, topology.queues["a"]) == {
        "x-dead-letter-exchange": "dlx",
        "x-dead-letter-routing-key": "k",
    }
    assert queue_arguments(topology, topology.queues["b"]) == {}


def test_a_queue_can_keep_its_dead_letters_for_longer() -> None:
    topology = expanded(TWO_QUEUES.replace("queue.a}", "queue.a, dead_letter: {ttl: 7d}}"))

    assert topology.queues["a.dlq"].ttl_ms == 7 * DAY_MS
    assert topology.queues["b.dlq"].ttl_ms == DAY_MS
    assert topology.queues["a"].dead_letter == topology.queues["b"].dead_letter.model_copy(  # type: ignore[union-attr]
        update={"routing_key": "queue.a"}
    )


def test_a_retry_queue_is_made_for_each_delay_that_is_asked_for() -> None:
    topology = expanded(
        TWO_QUEUES.replace("queue.a}", "queue.a, retry: {attempts: 5, backoff: [1s, 10s, 10s]}}")
    )

    assert list(topology.queues) == ["a", "a.dlq", "a.retry.1s", "a.retry.10s", "b", "b.dlq"]
    waiting = topology.queues["a.retry.10s"]
    assert waiting.name == "queue.a.retry.10s"
    assert queue_arguments(topology, waiting) == {
        "x-queue-type": "quorum",  # only these dead-letter at least once
        "x-message-ttl": 10_000,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "queue.a",
        "x-dead-letter-strategy": "at-least-once",
    }


def test_one_line_makes_every_queue_a_quorum_queue_but_those_that_cannot_be_one() -> None:
    topology = expanded(
        TWO_QUEUES.replace("queue.b}", "queue.b, exclusive: true}")
        + "  c: {name: c, type: classic}\n"
        + "defaults: {queue: {type: quorum}}\n"
    )

    types = {key: queue.type for key, queue in topology.queues.items()}
    assert types == {
        "a": "quorum",
        "a.dlq": "quorum",
        "b": None,
        "c": "classic",
        "c.dlq": "classic",
    }


def test_expanding_an_expanded_topology_changes_nothing() -> None:
    topology = expanded(TWO_QUEUES.replace("queue.a}", "queue.a, retry: {backoff: [1s]}}"))
    as_a_file = topology.model_copy()

    assert expand(topology) is topology
    assert type(as_a_file) is Topology
    assert expand(as_a_file) == topology
    assert list(expand(as_a_file).queues) == list(topology.queues)
    assert (topology, hash(topology)) == (as_a_file, hash(as_a_file))


def test_what_is_put_into_an_expanded_topology_is_expanded_in_its_turn() -> None:
    topology = expanded(TWO_QUEUES)
    retried = topology.queues["a"].model_copy(update={"retry": Retry(backoff_ms=(1_000,))})

    changed = topology.model_copy(update={"queues": {**topology.queues, "a": retried}})

    assert changed != topology
    assert "a.retry.1s" in expand(changed).queues
    assert expand(changed).where("queues", "a").line == topology.where("queues", "a").line


def test_what_was_added_points_at_the_line_that_led_to_it() -> None:
    topology = expanded(TWO_QUEUES.replace("queue.a}", "queue.a, dead_letter: {ttl: 7d}}"))

    assert str(topology.where("queues", "b.dlq", "ttl")).startswith("t.yaml:2:")
    assert topology.where("queues", "a.dlq", "ttl").line == 6
    router = next(i for i, b in enumerate(topology.bindings) if b.destination_type == "exchange")
    assert topology.where("bindings", router).line == 2


def test_a_binding_with_several_keys_becomes_one_for_each() -> None:
    topology = expanded(
        TWO_QUEUES + "bindings: [{source: dlx, destination: a, routing_keys: [k1, k2]}]\n"
    )

    keys = [(i, b.routing_key) for i, b in enumerate(topology.bindings) if b.destination == "a"]
    assert [key for _, key in keys] == ["k1", "k2"]
    assert {topology.where("bindings", i).line for i, _ in keys} == {8}

"""The simulated broker and a real one say the same of where messages go.

``ATTUNE_PROPERTY_EXAMPLES`` says how many random topologies to try of each kind; the ordinary run
tries few, and always the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings, strategies as st

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.topology.dead_lettering import REASONS, Reason
from attune_mq.topology.model import Topology
from attune_mq.topology.objects import Binding, Exchange, Queue
from attune_mq.topology.routing import Router
from tests.topology.real_routing import Refused, mortal, on_a_broker
from tests.topology.small_topologies import (
    Dying,
    deaths,
    messages,
    topologies,
    without_ttl,
)
from tests.topology.test_dead_lettering import TWO_WAITS
from tests.topology.test_routing import CHAIN, SHIPPED, router

EXAMPLES = os.environ.get("ATTUNE_PROPERTY_EXAMPLES")
against_broker = settings(
    max_examples=int(EXAMPLES or 25),
    derandomize=EXAMPLES is None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@against_broker
@given(data=st.data(), topology=topologies().map(without_ttl))
def test_messages_go_where_the_simulation_says(
    broker_url: str, topology: Topology, data: st.DataObject
) -> None:
    simulated = Router(topology)
    with on_a_broker(broker_url, topology) as real:
        for message in data.draw(messages(topology)):
            expected = simulated.route(message.exchange, message.routing_key, message.headers)

            taken = real.publish(message.exchange, message.routing_key, message.headers)

            event(f"in {len(expected.queues)} queues")
            assert (taken, real.drained()) == (not expected.unroutable, list(expected.queues))


@against_broker
@given(data=st.data(), topology=topologies())
def test_dead_letters_come_to_rest_where_the_simulation_says(
    broker: EmbeddedBroker, broker_url: str, topology: Topology, data: st.DataObject
) -> None:
    dying = data.draw(deaths(topology))
    topology = with_mortal_queue(topology, dying)
    simulated = Router(topology, broker_version=broker.version)
    expected = simulated.dead_letter(
        dying.queue, dying.routing_key, dying.headers, reason=dying.reason, follow=True
    )
    assume(not expected.cycle)
    event(f"{dying.reason}: {expected.dropped or 'rests'}")

    with on_a_broker(broker_url, topology) as real:
        real.die(dying)
        real.wait_until_settled(empty=left_behind(topology, dying))

        # a copy that expired on the way may come to where another copy went at once: two messages
        assert set(real.drained()) == set(expected.queues)


PATTERNS = (
    "", "a", "*", "#", ".", "a.", ".a", "a..b", "#.a", "##", "*.*", "#.#", "a.#.b", "a#", "*.#",
    "#.*", "a.*",
)  # fmt: skip
KEYS = (
    "", "a", ".", "a.", ".a", "a..b", "a.b", "#", "*", "##", "a.x.y.b", "a#", "a*", "..", "A",
    "*.a",
)  # fmt: skip


def test_topic_patterns_take_the_keys_that_the_broker_says(broker_url: str) -> None:
    topology = one_exchange("topic", [(pattern, {}) for pattern in PATTERNS])
    simulated = Router(topology)
    with on_a_broker(broker_url, topology) as real:
        for key in KEYS:
            real.publish("x", key)
            assert sorted(real.drained()) == list(simulated.route("x", key).queues), key


ASKED: tuple[Mapping[str, Any], ...] = (
    {},
    *({"x-match": mode} for mode in ("all", "any", "all-with-x", "any-with-x")),
    *({"x-match": mode, "x-h": 1} for mode in ("all", "any", "all-with-x", "any-with-x")),
    *({"x-match": mode, "h": 1, "x-h": 2} for mode in ("all", "any", "all-with-x", "any-with-x")),
    {"h": 1},
    {"h": "1"},
    {"h": True},
    {"h": None},
    {"h": 2**40},
    {"h": [1, "a", True]},
    {"h": {"y": 1, "z": 2}},
    {"x-match": "any", "h": None, "i": 2},
    {"BCC": None},
    {"CC": None},
)
GIVEN: tuple[Mapping[str, Any], ...] = (
    {},
    {"h": 1},
    {"h": "1"},
    {"h": True},
    {"h": None},
    {"h": 2**40},
    {"h": [1, "a", True]},
    {"h": [1, "a", 1]},
    {"h": {"y": 1, "z": 2}},
    {"h": {"z": 2, "y": 1}},
    {"h": 2, "i": 2},
    {"x-h": 1},
    {"h": 1, "x-h": 2},
    {"x-match": "all"},
    {"BCC": ["b"]},
    {"CC": ["b"]},
)


def test_headers_are_compared_as_the_broker_compares_them(broker_url: str) -> None:
    topology = one_exchange("headers", [("", arguments) for arguments in ASKED])
    simulated = Router(topology)
    with on_a_broker(broker_url, topology) as real:
        for headers in GIVEN:
            real.publish("x", "k", headers)
            expected = list(simulated.route("x", "k", headers).queues)
            assert sorted(real.drained()) == expected, headers


def one_exchange(kind: str, bindings: list[tuple[str, Mapping[str, Any]]]) -> Topology:
    """An exchange ``x`` and a queue for each of its bindings."""
    return Topology(
        version=1,
        exchanges={"x": Exchange(name="x", type=kind)},
        queues={
            f"q{i:02}": Queue(name=f"q{i:02}", dead_letter=False) for i in range(len(bindings))
        },
        bindings=tuple(
            Binding(source="x", destination=f"q{i:02}", routing_key=key, arguments=arguments)
            for i, (key, arguments) in enumerate(bindings)
        ),
    )


@pytest.mark.parametrize(
    ("exchange", "headers"),
    [
        ("x.inner", {}),
        ("x.nowhere", {}),
        ("amq.rabbitmq.trace", {}),
        ("", {"CC": "q.one"}),
        ("", {"CC": None}),
        ("", {"BCC": {"a": 1}}),
    ],
)
def test_the_broker_refuses_what_the_simulation_says(
    broker_url: str, exchange: str, headers: Mapping[str, Any]
) -> None:
    expected = CHAIN.route(exchange, "q.one", headers).refused
    assert expected is not None
    with on_a_broker(broker_url, CHAIN.topology) as real:
        with pytest.raises(Refused) as refused:
            real.publish(exchange, "q.one", headers)

        assert str(refused.value).startswith(expected.split(" - ")[0].split(" ", 1)[1])


def test_the_default_exchange_as_an_alternate_routes_nothing(broker_url: str) -> None:
    exchanges = {"x": Exchange(name="x", type="direct", alternate_exchange="")}
    queues = {"q": Queue(name="q", dead_letter=False)}
    topology = Topology(version=1, exchanges=exchanges, queues=queues)

    assert Router(topology).route("x", "q").unroutable
    with on_a_broker(broker_url, topology) as real:
        assert not real.publish("x", "q")


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("queue", ["events", "executions", "notifications"])
def test_each_dead_letter_of_the_shipped_file_comes_to_the_queue_of_its_own(
    broker_url: str, queue: str, reason: Reason
) -> None:
    whole = Router(SHIPPED).topology
    changed = {**whole.queues, queue: mortal(whole.queues[queue], reason)}
    topology = whole.model_copy(update={"queues": changed})
    dying = Dying(whole.queues[queue].name, reason, "some.key", {})
    expected = Router(topology).dead_letter(dying.queue, dying.routing_key, reason=reason)

    with on_a_broker(broker_url, topology) as real:
        real.die(dying)
        real.wait_until_settled(empty=[dying.queue] if reason == "delivery_limit" else [])

        assert real.drained() == list(expected.queues) == [f"{dying.queue}.dlq"]


def test_a_rejected_message_that_goes_round_by_expiry_goes_on_or_not_by_version(
    broker: EmbeddedBroker, broker_url: str
) -> None:
    """Each round leaves a copy behind, so that rounds can be counted."""
    two_waits = router(TWO_WAITS.replace("1s", "0s"), broker_version=broker.version)
    expected = two_waits.dead_letter("work", follow=True)
    with on_a_broker(broker_url, two_waits.topology) as real:
        real.die(Dying("work", "rejected", "", {}))

        if expected.cycle:
            real.wait_for("seen", 20)
        else:
            real.wait_until_settled(empty=["first", "second"])
            assert real.count("seen") == 1


def with_mortal_queue(topology: Topology, dying: Dying) -> Topology:
    queue = mortal(topology.queues[dying.queue], dying.reason)
    return topology.model_copy(update={"queues": {**topology.queues, dying.queue: queue}})


def left_behind(topology: Topology, dying: Dying) -> list[str]:
    """The queues in which no message stays."""
    passed = [name for name, queue in topology.queues.items() if queue.ttl_ms == 0]
    return [*passed, dying.queue] if dying.reason == "delivery_limit" else passed

"""The simulated broker and a real one say the same of where messages go.

``ATTUNE_PROPERTY_EXAMPLES`` says how many random topologies to try of each kind; the ordinary run
tries few, and always the same.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.topology.model import Topology
from attune_mq.topology.routing import Router
from tests.topology.real_routing import mortal, on_a_broker
from tests.topology.small_topologies import (
    Dying,
    deaths,
    messages,
    topologies,
    without_ttl,
)

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
    router = Router(topology)
    with on_a_broker(broker_url, topology) as real:
        for message in data.draw(messages(topology)):
            expected = router.route(message.exchange, message.routing_key, message.headers)

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
    router = Router(topology, broker_version=broker.version)
    expected = router.dead_letter(
        dying.queue, dying.routing_key, dying.headers, reason=dying.reason, follow=True
    )
    assume(not expected.circling)
    event(f"{dying.reason}: {expected.dropped or 'rests'}")

    with on_a_broker(broker_url, topology) as real:
        real.die(dying)
        real.wait_until_settled(empty=left_behind(topology, dying))

        assert real.drained() == list(expected.queues)


def with_mortal_queue(topology: Topology, dying: Dying) -> Topology:
    queue = mortal(topology.queues[dying.queue], dying.reason)
    return topology.model_copy(update={"queues": {**topology.queues, dying.queue: queue}})


def left_behind(topology: Topology, dying: Dying) -> list[str]:
    """The queues in which no message stays."""
    passed = [name for name, queue in topology.queues.items() if queue.ttl_ms == 0]
    return [*passed, dying.queue] if dying.reason == "delivery_limit" else passed

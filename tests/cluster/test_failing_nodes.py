"""Publishers, consumers and executors over the hosts of a cluster whose nodes fail."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest

from attune_mq import BrokerSettings, Consumer, Publisher, Topology, plan, setup_infrastructure
from attune_mq.broker import EmbeddedBroker, EmbeddedCluster
from attune_mq.errors import PublishError
from tests.administration import virtual_host_of
from tests.executor.harness import eventually
from tests.messaging.bench import WORK, Calls, handlers_of, request, topology_of

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "0"))
"""How often each kind of fault comes, as ``make test-matrix`` asks; 0: the first of them once."""
REPLICATED = "defaults: {queue: {type: quorum}}\n"
"""The one line."""
RECOVERS_S = 120.0
"""A deadline against hanging, not a claim about speed."""


@pytest.fixture
def topology() -> Topology:
    return topology_of(WORK + REPLICATED)


@pytest.fixture
def settings(urls: tuple[str, ...]) -> BrokerSettings:
    return BrokerSettings(urls=urls, heartbeat_s=2, connect_timeout_s=3)


@contextmanager
def killed(cluster: EmbeddedCluster, node: EmbeddedBroker) -> Iterator[None]:
    node.kill()
    yield
    cluster.start()


@contextmanager
def stopped_in_order(_cluster: EmbeddedCluster, node: EmbeddedBroker) -> Iterator[None]:
    node.rabbitmqctl("stop_app")
    yield
    node.rabbitmqctl("start_app")


@contextmanager
def paused(_cluster: EmbeddedCluster, node: EmbeddedBroker) -> Iterator[None]:
    """Its connections stand, and nothing comes of them."""
    node.pause()
    yield
    node.resume()


FAULTS = (killed, stopped_in_order, paused)


class Numbers:
    """Publishes one number after the other until each is confirmed; stops when told."""

    def __init__(self, topology: Topology, settings: BrokerSettings) -> None:
        self.confirmed: list[int] = []
        self._topology, self._settings = topology, settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Numbers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(RECOVERS_S)
        assert not self._thread.is_alive()

    def wait_for_more(self, count: int = 50) -> None:
        wanted = len(self.confirmed) + count
        eventually(lambda: len(self.confirmed) >= wanted, RECOVERS_S)

    def _run(self) -> None:
        with Publisher(self._topology, self._settings) as publisher:
            number = 0
            while not self._stopping.is_set():
                with suppress(PublishError):  # its owner sends it again
                    publisher.publish(request(number), timeout_s=2)
                    self.confirmed.append(number)
                    number += 1


def test_setup_by_one_node_is_what_another_plans(urls: tuple[str, ...], topology: Topology) -> None:
    setup_infrastructure(topology, urls[0])

    planned = plan(topology, urls[1])

    assert not planned.create
    assert not planned.conflicts


def test_what_was_confirmed_is_handled_though_the_leader_is_killed_stopped_or_paused(
    cluster: EmbeddedCluster, urls: tuple[str, ...], topology: Topology, settings: BrokerSettings
) -> None:
    setup_infrastructure(topology, settings)
    vhost, calls = virtual_host_of(urls[0]), Calls()
    consumers = [
        Consumer(topology, "worker", handlers_of(calls), settings, instance=str(number))
        for number in range(2)
    ]
    with ExitStack() as stack:
        for consumer in consumers:
            consumer.start()
            stack.callback(consumer.join, RECOVERS_S)
            stack.callback(consumer.stop)
        numbers = stack.enter_context(Numbers(topology, settings))
        numbers.wait_for_more()
        for fault in FAULTS * ROUNDS or FAULTS[:1]:
            with fault(cluster, cluster.leader_of("work.queue", vhost)):
                numbers.wait_for_more()
            cluster.wait_until_whole()
        numbers.wait_for_more()
        eventually(lambda: set(numbers.confirmed) <= set(calls.ids), RECOVERS_S)

    assert set(numbers.confirmed) <= set(calls.ids)


def test_who_comes_while_a_leader_is_elected_is_refused_no_longer_than_that(
    cluster: EmbeddedCluster, urls: tuple[str, ...], topology: Topology
) -> None:
    """RabbitMQ 3.10 would refuse all that comes on the same channel for ever."""
    setup_infrastructure(topology, urls[0])
    vhost = virtual_host_of(urls[0])
    leader = cluster.leader_of("work.queue", vhost)
    publishers = [
        Publisher(topology, node.url_of(vhost)) for node in cluster.nodes if node is not leader
    ]
    with killed(cluster, leader):
        for publisher in publishers:
            with publisher:
                eventually(partial(is_confirmed, publisher), RECOVERS_S)


def is_confirmed(publisher: Publisher) -> bool:
    try:
        publisher.publish(request(1), timeout_s=5)
    except PublishError:
        return False
    return True

"""A consumer that is told to stop: nothing new begins, what runs may finish, nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from attune_mq import BrokerSettings, Consumer, Envelope, Handlers, Message, Topology
from attune_mq.errors import RetryLater
from attune_mq.message import encode
from tests.messaging.bench import (
    DEAD,
    QUEUE,
    WAIT_S,
    Bench,
    Calls,
    Gate,
    consumer_of,
    handlers_of,
    request,
    running,
    wait_for,
    wait_until_a_silent_connection_is_dropped,
)
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until


@pytest.fixture
def backlog(bench: Bench) -> Bench:
    """Ten messages."""
    for number in range(10):
        bench.put(QUEUE, encode(Envelope.of(request(number))))
    return bench


@pytest.fixture
def stuck(backlog: Bench, topology: Topology, gate: Gate) -> Iterator[Consumer]:
    """A consumer whose handler runs, with all the other messages at hand."""
    consumer = consumer_of(backlog, topology, Calls(gate))
    with running(consumer):
        wait_for(gate.entered, "the handler runs")
        wait_until(lambda: consumer.status.in_flight == 10, "all messages are at hand")
        yield consumer
        gate.let_through.set()


def test_what_has_not_begun_goes_back_at_once_while_a_handler_runs(
    stuck: Consumer, backlog: Bench, gate: Gate
) -> None:
    stuck.stop(60)

    backlog.wait_for_depth(QUEUE, 9)
    backlog.wait_for_consumers(QUEUE, 0)
    assert stuck.status.state == "stopping"
    assert not stuck.join(0)

    gate.let_through.set()
    assert stuck.join(WAIT_S)
    assert stuck.status.handled == 1
    left = backlog.take_all(QUEUE)
    assert len(left) == 9
    assert all(waiting.headers == {} for waiting in left)  # they were given back, not copied


def test_a_handler_that_fails_while_its_consumer_stops_is_tried_again_by_another(
    backlog: Bench, topology: Topology, gate: Gate
) -> None:
    def work(message: Message[Any]) -> None:
        gate(message)
        raise RetryLater("busy", delay_s=0)

    consumer = consumer_of(backlog, topology, Calls(work))
    with running(consumer):
        wait_for(gate.entered, "the handler runs")
        consumer.stop(60)
        gate.let_through.set()
        assert consumer.join(WAIT_S)

    assert sorted(
        waiting.headers.get("x-attune-attempt", 0) for waiting in backlog.take_all(QUEUE)
    ) == [
        *[0] * 9,
        1,
    ]


def test_a_handler_that_does_not_finish_in_time_is_left_and_its_message_goes_back(
    stuck: Consumer, backlog: Bench, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    stuck.stop(0.2)

    assert stuck.join(WAIT_S)
    assert "leaves 1 unfinished messages to be delivered again" in caplog.text
    backlog.wait_for_depth(QUEUE, 10)
    gate.let_through.set()  # what it says now is of no consequence
    assert backlog.depth(QUEUE) == 10


def test_told_a_second_time_it_stops_at_once(stuck: Consumer, backlog: Bench) -> None:
    stuck.stop(600)
    backlog.wait_for_depth(QUEUE, 9)

    stuck.stop(0)

    assert stuck.join(WAIT_S)
    backlog.wait_for_depth(QUEUE, 10)


def test_messages_that_are_held_for_a_retry_go_back_at_once_and_are_held_further(
    bench: Bench, topology: Topology
) -> None:
    def work(_message: Message[Any]) -> None:
        raise RetryLater("much later", delay_s=600)

    bench.put(QUEUE, encode(Envelope.of(request(1))))
    consumer = consumer_of(bench, topology, Calls(work))
    with running(consumer):
        wait_until(lambda: consumer.status.retried == 1, "it is tried again")
        wait_until(lambda: consumer.status.in_flight == 1, "it is held")
        consumer.stop(60)
        assert consumer.join(WAIT_S)

    bench.wait_for_depth(QUEUE, 1)
    again = Calls()
    other = consumer_of(bench, topology, again)
    with running(other):
        wait_until(lambda: other.status.in_flight == 1, "the other one has it")
    (waiting,) = bench.take_all(QUEUE)
    assert waiting.headers["x-attune-attempt"] == 1
    assert "x-attune-not-before" in waiting.headers
    assert again.messages == []


def test_the_heartbeat_goes_on_while_a_handler_finishes(
    bench: Bench, topology: Topology, gate: Gate
) -> None:
    bench.put(QUEUE, encode(Envelope.of(request(1))))
    settings = BrokerSettings(urls=(bench.url,), heartbeat_s=1)
    consumer = Consumer(topology, "worker", handlers_of(Calls(gate)), settings)
    with running(consumer):
        wait_for(gate.entered, "the handler runs")
        consumer.stop(60)
        wait_until_a_silent_connection_is_dropped(bench)
        assert bench.depth(QUEUE) == 0

        gate.let_through.set()
        assert consumer.join(WAIT_S)

    assert bench.depth(QUEUE) == 0
    assert bench.depth(DEAD) == 0


def test_a_handler_may_finish_though_the_connection_is_lost_meanwhile(
    backlog: Bench, topology: Topology, gate: Gate, proxy: Proxy
) -> None:
    finished = threading.Event()

    def work(message: Message[Any]) -> None:
        gate(message)
        finished.set()

    consumer = Consumer(topology, "worker", handlers_of(Calls(work)), proxy.url)
    with running(consumer):
        wait_for(gate.entered, "the handler runs")
        consumer.stop(60)
        backlog.wait_for_depth(QUEUE, 9)
        proxy.cut()
        backlog.wait_for_depth(QUEUE, 10)

        assert not consumer.join(0)
        gate.let_through.set()
        assert consumer.join(WAIT_S)
    assert finished.is_set()


def test_a_consumer_that_was_stopped_before_it_began_takes_nothing(
    backlog: Bench, topology: Topology
) -> None:
    calls = Calls()
    consumer = consumer_of(backlog, topology, calls)
    consumer.stop()

    consumer.run()

    assert calls.messages == []
    assert not any(waiting.redelivered for waiting in backlog.take_all(QUEUE))


def test_a_consumer_without_messages_stops_at_once(bench: Bench, topology: Topology) -> None:
    consumer = Consumer(topology, "worker", Handlers(), bench.url)
    with running(consumer):
        bench.wait_for_consumers(QUEUE, 1)
        consumer.stop(600)
        assert consumer.join(WAIT_S)

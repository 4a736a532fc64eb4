"""The consumer, when the broker, the way to it, or its own process fails: nothing is lost."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attune_mq import (
    BrokerSettings,
    Consumer,
    Envelope,
    Message,
    Publisher,
    Topology,
    setup_infrastructure,
)
from attune_mq.amqp import liveness
from attune_mq.broker import EmbeddedBroker
from attune_mq.consuming import channel_session
from attune_mq.errors import Reject, RetryLater
from attune_mq.message import decode, encode
from tests.messaging.bench import (
    CLOSED_URL,
    DEAD,
    QUEUE,
    WAIT_S,
    Bench,
    Calls,
    Gate,
    consumer_of,
    failing,
    handlers_of,
    request,
    running,
    topology_of,
    wait_for,
    wait_for_state,
)
from tests.messaging.poison_consumer import LIMIT
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until

MESSAGE = encode(Envelope.of(request(1)))


def behind(proxy: Proxy, topology: Topology, calls: Calls, **options: Any) -> Consumer:
    return Consumer(topology, "worker", handlers_of(calls), proxy.url, **options)


def wait_until_settled(consumer: Consumer) -> None:
    wait_until(lambda: consumer.status.in_flight == 0, "everything is settled")


# The connection.


def test_a_stale_acknowledgement_is_never_sent_on_a_new_channel(
    bench: Bench, topology: Topology, proxy: Proxy, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    bench.put(QUEUE, MESSAGE)
    calls = Calls(gate)
    consumer = behind(proxy, topology, calls, concurrency=2)
    with running(consumer), caplog.at_level(logging.WARNING):
        wait_for(gate.entered, "the handler runs")
        proxy.cut()
        wait_until(lambda: consumer.status.connections == 2, "it consumes again")
        bench.wait_for_depth(QUEUE, 0)
        calls.wait_for(2)  # the same message, again, while the first handler still runs
        gate.let_through.set()
        wait_until_settled(consumer)

        assert consumer.status.connections == 2
    assert bench.depth(QUEUE) == 0
    assert "unknown delivery tag" not in caplog.text


def test_what_had_not_begun_when_the_connection_was_lost_is_not_begun_in_vain(
    bench: Bench, topology: Topology, proxy: Proxy, gate: Gate
) -> None:
    for number in range(5):
        bench.put(QUEUE, encode(Envelope.of(request(number))))
    calls = Calls(gate)
    consumer = behind(proxy, topology, calls)
    with running(consumer):
        wait_for(gate.entered, "the first handler runs")
        wait_until(lambda: consumer.status.in_flight == 5, "the others are at hand")
        proxy.cut()
        wait_until(lambda: consumer.status.connections == 2, "it consumes again")
        gate.let_through.set()
        wait_until(lambda: consumer.status.handled == 6, "all are handled")
        wait_until_settled(consumer)

    assert sorted(calls.ids) == [0, 0, 1, 2, 3, 4]  # the first twice, of the others none
    assert bench.depth(QUEUE) == 0


def test_a_delivery_cut_in_mid_frame_comes_again(
    bench: Bench, topology: Topology, proxy: Proxy
) -> None:
    calls = Calls()
    consumer = behind(proxy, topology, calls)
    with running(consumer):
        wait_for_state(consumer, "consuming")
        proxy.cut_after(100, "to client")
        bench.put(QUEUE, MESSAGE)

        calls.wait_for(1)
        wait_until_settled(consumer)
        assert consumer.status.connections == 2
    assert len(calls.messages) == 1


def test_a_connection_cut_in_its_handshake_is_tried_again(
    bench: Bench, topology: Topology, proxy: Proxy
) -> None:
    proxy.cut_next_after(520, "to client")
    with running(consumer := behind(proxy, topology, Calls())):
        wait_for_state(consumer, "consuming")

    assert proxy.accepted > 1


def test_of_several_hosts_one_may_be_dead(bench: Bench, topology: Topology) -> None:
    settings = BrokerSettings(urls=(CLOSED_URL, bench.url))
    for instance in range(4):  # whichever is tried first
        consumer = Consumer(
            topology, "worker", handlers_of(Calls()), settings, instance=str(instance)
        )
        with running(consumer):
            wait_for_state(consumer, "consuming")


def test_a_connection_on_which_we_cannot_be_heard_any_more_is_replaced(
    bench: Bench, topology: Topology, proxy: Proxy
) -> None:
    """The broker misses our heartbeat first: pika takes 6 to 12 seconds to miss the broker's."""
    settings = BrokerSettings(urls=(proxy.url,), heartbeat_s=1)
    consumer = Consumer(topology, "worker", handlers_of(Calls()), settings)
    with running(consumer), Publisher(topology, settings) as publisher:
        publisher.publish(request(1))
        wait_for_state(consumer, "consuming")
        proxy.stall("to broker")

        wait_until(lambda: consumer.status.connections == 2, "the consumer is back")
        wait_until(lambda: publisher.connections == 2, "the publisher is back")


# What goes quietly.


def test_a_message_that_takes_longer_to_come_than_an_answer_may_is_handled(
    broker_url: str, bench: Bench, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the question whether the broker lives comes after the message."""
    monkeypatch.setattr(liveness, "GIVE_UP_AFTER_S", 1.0)
    slow, calls = Proxy(broker_url, slow=("to client", 1_000_000)), Calls()
    large = request(1).model_copy(update={"config": {"blob": "x" * 4_000_000}})
    bench.put(QUEUE, encode(Envelope.of(large)))
    try:
        consumer = behind(slow, topology, calls)
        with running(consumer):
            calls.wait_for(1)
            wait_until_settled(consumer)
        assert consumer.status.connections == 1
    finally:
        slow.close()


def test_a_broker_that_allows_one_channel_is_consumed_from_and_published_to(
    topology: Topology,
) -> None:
    calls = Calls()
    with EmbeddedBroker(config={"channel_max": 1}) as broker:
        setup_infrastructure(topology, broker.url)
        consumer = Consumer(topology, "worker", handlers_of(calls), broker.url)
        with running(consumer), Publisher(topology, broker.url) as publisher:
            publisher.publish(request(1))
            calls.wait_for(1)
            wait_until_settled(consumer)
        assert (consumer.status.connections, publisher.connections) == (1, 1)


def test_a_queue_that_is_deleted_is_made_again(bench: Bench, topology: Topology) -> None:
    calls = Calls()
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        wait_for_state(consumer, "consuming")
        bench.channel.queue_delete(QUEUE)
        wait_until(lambda: consumer.status.connections == 2, "it consumes again")
        bench.channel.basic_publish("work", "requested", MESSAGE)

        calls.wait_for(1)


def test_a_consumer_whose_queue_is_gone_says_so_while_it_may_not_make_it(
    bench: Bench, topology: Topology
) -> None:
    consumer = consumer_of(bench, topology, Calls(), setup="verify")
    with running(consumer):
        wait_for_state(consumer, "consuming")
        bench.channel.queue_delete(QUEUE)

        wait_until(lambda: "does not exist" in str(consumer.status.detail), "it says so")
        assert consumer.status.state == "connecting"


def test_all_that_was_deleted_during_an_outage_is_set_up_again(
    bench: Bench, topology: Topology, proxy: Proxy
) -> None:
    calls = failing(Reject("no"))
    consumer = behind(proxy, topology, calls)
    with running(consumer):
        wait_for_state(consumer, "consuming")
        for exchange in ("work", "dlx", "dlx.direct"):
            bench.channel.exchange_delete(exchange)
        for queue in (QUEUE, DEAD):
            bench.channel.queue_delete(queue)
        proxy.cut()
        wait_until(lambda: consumer.status.connections > 1, "it consumes again")
        wait_for_state(consumer, "consuming")
        bench.put(QUEUE, MESSAGE)

        bench.take_when_there(DEAD)


def test_a_channel_that_is_closed_under_a_living_connection_is_noticed(
    bench: Bench, topology: Topology, gate: Gate
) -> None:
    calls = Calls(gate)
    consumer = consumer_of(bench, topology, calls, concurrency=2)
    with running(consumer):
        bench.put(QUEUE, MESSAGE)
        wait_for(gate.entered, "the handler runs")
        acknowledge_what_nobody_delivered(consumer)

        calls.wait_for(2)
        gate.let_through.set()
        wait_until_settled(consumer)
        assert consumer.status.connections == 2
    assert bench.depth(QUEUE) == 0


def acknowledge_what_nobody_delivered(consumer: Consumer) -> None:
    """The broker closes the channel for it (406). A client cannot do that to another's channel, so
    this reaches for the consumer's own."""
    current = consumer._subscription
    assert current is not None
    channel = current._channel
    assert channel is not None
    channel.basic_ack(4_711)


# Copies.


@pytest.fixture
def stalled(topology: Topology, proxy: Proxy) -> Iterator[Publisher]:
    """A publisher to which no confirm comes."""
    with Publisher(topology, proxy.url, timeout_s=60) as publisher:
        publisher.publish(request(0))
        proxy.stall("to client")
        yield publisher


@pytest.mark.parametrize(
    ("failure", "copies"),
    [(Reject("never"), DEAD), (ValueError("no"), f"{QUEUE}.retry.1h")],
    ids=["a dead letter", "a retry"],
)
def test_an_original_is_not_acknowledged_before_its_copy_is_confirmed(
    bench: Bench,
    proxy: Proxy,
    stalled: Publisher,
    failure: Exception,
    copies: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_session, "RETRY_S", 0.05)
    retrying = topology_of(retry="{attempts: 3, backoff: [1h]}")
    bench.set_up(retrying)
    calls = failing(failure)
    consumer = consumer_of(bench, retrying, calls, publisher=stalled)
    with running(consumer):
        bench.wait_for_depth(copies, 1)
        assert consumer.status.in_flight == 1
        assert consumer.status.retried + consumer.status.dead_lettered == 0

        proxy.cut()  # the confirm is lost, so the copy is sent once more: twice rather than never
        bench.wait_for_depth(copies, 2)
        wait_until_settled(consumer)

    assert consumer.status.retried + consumer.status.dead_lettered == 1
    assert len(calls.messages) == 1
    assert bench.depth(QUEUE) == 0


def test_a_dead_letter_waits_out_a_broker_that_blocks_publishers(
    fault_broker: EmbeddedBroker, topology: Topology
) -> None:
    with fault_bench_of(fault_broker, topology) as bench:
        calls = failing(Reject("never"))
        bench.put(QUEUE, MESSAGE)
        fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0")
        try:
            with running(consumer := consumer_of(bench, topology, calls)):
                calls.wait_for(1)
                assert consumer.status.in_flight == 1
                fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
                bench.wait_for_depth(DEAD, 1)
        finally:
            fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
        assert len(calls.messages) == 1
        assert bench.depth(QUEUE) == 0


# Processes and nodes.


def test_a_message_survives_a_process_that_is_killed_in_its_handler_and_attempts_go_on_counting(
    bench: Bench, topology: Topology
) -> None:
    bench.put(QUEUE, MESSAGE)
    attempts = []
    for instance in ("a", "b", "c"):
        attempts.append(attempt_in_a_process_that_is_killed(bench.url))

        def work(message: Message[Any]) -> None:
            attempts.append(message.attempt)
            consumer.stop(5)  # noqa: B023 - it is stopped before the next is made
            raise RetryLater("not by me", delay_s=0)

        consumer = consumer_of(bench, topology, Calls(work), instance=instance)
        consumer.run()

    assert attempts == [1, 1, 2, 2, 3, 3]
    assert bench.take_when_there(DEAD).headers["x-attune-attempt"] == 3
    assert bench.depth(QUEUE) == 0


def attempt_in_a_process_that_is_killed(url: str) -> int:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.messaging.killed_consumer", url],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        told = process.stdout.readline().split()
        process.kill()
    return int(told[1])


def test_a_message_that_kills_its_process_is_one_dead_letter_after_as_many_deaths_as_the_limit_says(
    bench: Bench, topology: Topology
) -> None:
    """On a classic queue, where each return is counted in a copy: beside its original it would
    multiply if it were begun before the original is acknowledged."""
    bystanders = range(1, 21)
    for number in (0, *bystanders):
        bench.put(QUEUE, encode(Envelope.of(request(number))))

    done = subprocess.run(
        [sys.executable, "-m", "tests.messaging.poison_consumer", bench.url],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    told = done.stdout.splitlines()

    assert done.returncode == 0
    assert told.count("died") == LIMIT + 1
    dead = [decode(message.body).payload["execution_id"] for message in bench.take_all(DEAD)]
    assert 0 in dead
    assert len(dead) == len(set(dead))
    # Bystanders come back as often, so that some are given up with it.
    assert {f"handled {one}" for one in bystanders if one not in dead} <= set(told)
    assert bench.depth(QUEUE) == 0


@contextmanager
def fault_bench_of(broker: EmbeddedBroker, topology: Topology) -> Iterator[Bench]:
    with broker.fresh_vhost() as url:
        bench = Bench(url)
        bench.set_up(topology)
        yield bench
        bench.close()


def test_a_broker_that_is_frozen_when_the_consumer_connects_is_waited_for(
    fault_broker: EmbeddedBroker, topology: Topology
) -> None:
    with fault_broker.fresh_vhost() as url:
        settings = BrokerSettings(urls=(url,), connect_timeout_s=0.2)
        consumer = Consumer(topology, "worker", handlers_of(Calls()), settings)
        fault_broker.pause()
        try:
            consumer.start()
            wait_until(lambda: consumer.status.detail is not None, "it says why it waits")
        finally:
            fault_broker.resume()
        wait_for_state(consumer, "consuming")
        consumer.stop(5)
        assert consumer.join(WAIT_S)

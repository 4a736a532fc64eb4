"""The consumer, against a broker that works; what becomes of messages and attempts."""

from __future__ import annotations

import contextlib
import gc
import os
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pika
import pytest

from attune_mq import (
    BrokerSettings,
    Consumer,
    Envelope,
    Handlers,
    Message,
    Publisher,
    Route,
    Topology,
)
from attune_mq.broker import EmbeddedBroker
from attune_mq.consuming import channel_session
from attune_mq.errors import DuplicateConsumerTag, Reject, RetryLater
from attune_mq.message import decode, encode
from attune_mq.message.settlement import MAX_REDELIVERIES
from attune_mq.payloads import (
    EnforcementCreated,
    ExecutionCompleted,
    ExecutionRequested,
)
from attune_mq.topology import UnknownName
from tests.administration import virtual_host_of
from tests.messaging.bench import (
    CLOSED_URL,
    DEAD,
    QUEUE,
    WORK,
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
    wait_until_a_silent_connection_is_dropped,
)
from tests.messaging.bodies import body
from tests.versions import Rabbit
from tests.waiting import wait_until


@pytest.fixture
def publisher(topology: Topology, bench: Bench) -> Iterator[Publisher]:
    with Publisher(topology, bench.url) as publisher:
        yield publisher


# Handling.


def test_a_message_is_handled_and_acknowledged(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    calls = Calls()
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        publisher.publish(request(1), correlation_id="story")

        (message,) = calls.wait_for(1)
        wait_until(lambda: consumer.status.in_flight == 0, "it is acknowledged")
        assert message.payload == request(1)
        assert message.envelope.correlation_id == "story"
        assert message.delivery.exchange == "work"
        assert message.delivery.routing_key == "requested"
        assert consumer.status.handled == 1

    assert bench.depth(QUEUE) == 0
    assert bench.depth(DEAD) == 0


def test_messages_are_dispatched_by_their_type(bench: Bench, topology: Topology) -> None:
    requests, enforcements = Calls(), Calls()
    handlers = handlers_of(requests)
    handlers.on(EnforcementCreated)(enforcements)
    created = EnforcementCreated(enforcement_id=2, rule_ref="r", trigger_ref="t", payload={})
    with (
        running(Consumer(topology, "worker", handlers, bench.url)),
        Publisher(topology, bench.url) as publisher,
    ):
        publisher.publish_many([request(1), created], route=Route("", QUEUE))

        assert requests.wait_for(1)[0].payload == request(1)
        assert enforcements.wait_for(1)[0].payload == created


def test_a_backlog_is_handled_in_order(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    publisher.publish_many([request(number) for number in range(200)])
    calls = Calls()
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        calls.wait_for(200)
        wait_until(lambda: consumer.status.in_flight == 0, "all are acknowledged")

    assert calls.ids == list(range(200))
    assert bench.depth(QUEUE) == 0


def test_a_consumer_has_at_most_so_many_messages_at_once_as_its_prefetch_says(
    bench: Bench, topology: Topology, publisher: Publisher, gate: Gate
) -> None:
    publisher.publish_many([request(number) for number in range(10)])
    consumer = consumer_of(bench, topology, Calls(gate), prefetch=4)
    with running(consumer):
        wait_for(gate.entered, "the first is handled")
        wait_until(lambda: consumer.status.in_flight == 4, "four are with the consumer")

        assert bench.depth(QUEUE) == 6
        gate.let_through.set()


def test_so_many_handlers_run_at_once_as_its_concurrency_says(
    bench: Bench, topology: Topology, publisher: Publisher, gate: Gate
) -> None:
    publisher.publish_many([request(number) for number in range(8)])
    calls = Calls(gate)
    consumer = consumer_of(bench, topology, calls, concurrency=3)
    with running(consumer):
        calls.wait_for(3)
        wait_until(lambda: consumer.status.in_flight == 8, "the others are there, too")

        assert len(calls.messages) == 3
        gate.let_through.set()
        calls.wait_for(8)


def test_acknowledgements_out_of_order_settle_each_message_once(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    slow = threading.Event()

    def work(message: Message[Any]) -> None:
        if message.payload.execution_id == 0:
            wait_for(slow, "the others to be done")

    publisher.publish_many([request(number) for number in range(9)])
    calls = Calls(work)
    consumer = consumer_of(bench, topology, calls, concurrency=3)
    with running(consumer):
        calls.wait_for(9)
        wait_until(lambda: consumer.status.in_flight == 1, "all but the slow one are settled")
        slow.set()
        wait_until(lambda: consumer.status.in_flight == 0, "all are settled")
        assert consumer.status.connections == 1

    assert sorted(calls.ids) == list(range(9))
    assert bench.depth(QUEUE) == 0


def test_a_handler_may_take_longer_than_the_heartbeat(
    bench: Bench, topology: Topology, publisher: Publisher, gate: Gate
) -> None:
    publisher.publish(request(1))
    settings = BrokerSettings(urls=(bench.url,), heartbeat_s=1)
    calls = Calls(gate)
    consumer = Consumer(topology, "worker", handlers_of(calls), settings)
    with running(consumer):
        wait_for(gate.entered, "the handler runs")
        wait_until_a_silent_connection_is_dropped(bench)
        gate.let_through.set()
        wait_until(lambda: consumer.status.handled == 1, "it is handled")
        wait_until(lambda: consumer.status.in_flight == 0, "it is acknowledged")

        assert consumer.status.connections == 1
    assert len(calls.messages) == 1
    assert bench.depth(QUEUE) == 0


def test_a_handler_over_its_deadline_is_told_while_it_runs(
    bench: Bench, publisher: Publisher, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    hurried = topology_of(WORK.replace("prefetch: 10", "prefetch: 10, deadline: 1ms"))
    publisher.publish(request(1))
    with running(consumer_of(bench, hurried, Calls(gate))):
        wait_until(lambda: "is past its deadline" in caplog.text, "the handler is told of")
        gate.let_through.set()


# What cannot be handled is dead-lettered with the reason.


@pytest.mark.parametrize(
    ("unreadable", "told"),
    [
        (b"not JSON", "JSON"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 100_000, "JSON"),
        (b" " * (16 * 1024 * 1024), "JSON"),
        (body("message_type"), "message_type"),
        (body(payload={"action_ref": "core.echo"}), "execution_id"),
    ],
    ids=["no JSON", "no UTF-8", "too deep", "16 MiB", "no type", "a field missing"],
)
def test_what_cannot_be_read_is_dead_lettered_with_the_reason(
    bench: Bench, topology: Topology, unreadable: bytes, told: str
) -> None:
    calls = Calls()
    bench.put(QUEUE, unreadable)
    with running(consumer_of(bench, topology, calls)):
        dead = bench.take_when_there(DEAD)

    assert dead.body == unreadable
    assert dead.headers["x-attune-reason"] == "unreadable"
    assert told in dead.headers["x-attune-error-message"]
    assert calls.messages == []


def test_a_type_that_nobody_handles_is_dead_lettered_with_the_reason(
    bench: Bench, topology: Topology
) -> None:
    bench.put(QUEUE, body(message_type="Strange"))
    with running(consumer_of(bench, topology, Calls())):
        dead = bench.take_when_there(DEAD)

    assert dead.headers["x-attune-reason"] == "unhandled"
    assert "'Strange'" in dead.headers["x-attune-error-message"]


def test_what_comes_after_a_poisonous_message_is_handled(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    calls = Calls()
    bench.put(QUEUE, b"poison")
    publisher.publish(request(1))
    with running(consumer_of(bench, topology, calls)):
        calls.wait_for(1)


class OddProperties(pika.BasicProperties):
    """With one header whose value pika cannot write; other programs do."""

    def __init__(self, value: bytes) -> None:
        super().__init__()
        self._table = b"\x01x" + value

    def encode(self) -> list[bytes]:
        return [struct.pack(">HI", self.FLAG_HEADERS, len(self._table)), self._table]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"T" + struct.pack(">Q", 1_700_000_000_000), "1700000000000"),
        (b"T" + struct.pack(">q", -1), str(2**64 - 1)),
        (b"F" + struct.pack(">I", 11) + b"\x01yT" + struct.pack(">Q", 2**60), {"y": str(2**60)}),
    ],
    ids=["in milliseconds", "before 1970", "in a table"],
)
def test_a_time_in_a_header_that_pika_cannot_read_ends_no_consumer(
    bench: Bench, topology: Topology, value: bytes, read: Any
) -> None:
    calls = failing(Reject("never"))
    bench.put(QUEUE, encode(Envelope.of(request(1))), OddProperties(value))
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        (message,) = calls.wait_for(1)
        dead = bench.take_when_there(DEAD)

        assert consumer.status.connections == 1
    assert message.delivery.headers["x"] == dead.headers["x"] == read


# Attempts.


def test_a_message_that_keeps_failing_is_tried_three_times_with_a_growing_pause(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    began: list[datetime] = []

    def work(_message: Message[Any]) -> None:
        began.append(datetime.now(UTC))
        raise ValueError("no such action")

    calls = Calls(work)
    publisher.publish(request(1))
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        dead = bench.take_when_there(DEAD)
        wait_until(lambda: consumer.status.in_flight == 0, "the original is acknowledged")

        assert consumer.status.retried == 2
        assert consumer.status.dead_lettered == 1
    assert [message.attempt for message in calls.messages] == [1, 2, 3]
    assert began[1] - began[0] >= timedelta(seconds=1)
    assert began[2] - began[1] >= timedelta(seconds=5)
    assert bench.depth(QUEUE) == 0
    assert_is_a_complete_dead_letter(dead.headers, attempts=3, reason="attempts exhausted")
    assert dead.body == encode(calls.messages[0].envelope)


def assert_is_a_complete_dead_letter(headers: dict[str, Any], attempts: int, reason: str) -> None:
    died_at = datetime.fromisoformat(headers["x-attune-died-at"])
    assert timedelta(0) <= datetime.now(UTC) - died_at < timedelta(minutes=1)
    assert headers["x-attune-error-trace"].startswith("Traceback")
    expected = {
        "x-attune-reason": reason,
        "x-attune-attempt": attempts,
        "x-attune-error-type": "ValueError",
        "x-attune-error-message": "no such action",
        "x-attune-consumer": "worker",
        "x-attune-queue": QUEUE,
        "x-attune-exchange": "work",
        "x-attune-routing-key": "requested",
    }
    assert {name: headers[name] for name in expected} == expected


def test_retry_queues_hold_a_message_for_their_time_and_give_it_back(
    bench: Bench, publisher: Publisher
) -> None:
    retrying = topology_of(retry="{attempts: 3, backoff: [50ms, 100ms]}")
    calls = failing(ValueError("no such action"))
    consumer = consumer_of(bench, retrying, calls)
    with running(consumer):
        wait_for_state(consumer, "consuming")
        publisher.publish(request(1))
        dead = bench.take_when_there(DEAD)

    assert [message.attempt for message in calls.messages] == [1, 2, 3]
    assert not any(message.is_dead_letter for message in calls.messages)
    assert_is_a_complete_dead_letter(dead.headers, attempts=3, reason="attempts exhausted")


def test_a_handler_can_reject_a_message_for_good(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    calls = failing(Reject("never"))
    publisher.publish(request(1))
    with running(consumer_of(bench, topology, calls)):
        dead = bench.take_when_there(DEAD)

    assert len(calls.messages) == 1
    assert dead.headers["x-attune-reason"] == "rejected"
    assert dead.headers["x-attune-error-message"] == "never"


def test_a_handler_that_calls_for_the_end_of_the_process_is_a_failure_like_others(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    def work(message: Message[Any]) -> None:
        if message.attempt == 1:
            raise SystemExit(3)

    calls = Calls(work)
    publisher.publish(request(1))
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        calls.wait_for(2)
        wait_until(lambda: consumer.status.handled == 1, "it is handled")

    assert bench.depth(DEAD) == 0


def test_attempts_are_counted_across_consumers(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    publisher.publish(request(1))
    attempts: list[int] = []
    for instance in ("a", "b", "c"):

        def work(message: Message[Any]) -> None:
            attempts.append(message.attempt)
            consumer.stop(5)  # noqa: B023 - it is stopped before the next is made
            raise RetryLater("not by me", delay_s=0)

        consumer = consumer_of(bench, topology, Calls(work), instance=instance)
        consumer.run()

    assert attempts == [1, 2, 3]
    dead = bench.take_when_there(DEAD)
    assert dead.headers["x-attune-attempt"] == 3
    assert dead.headers["x-attune-consumer"] == "worker@c"


def test_each_dead_letter_reaches_only_the_queue_of_its_own(bench: Bench) -> None:
    two = topology_of(
        WORK.replace("  work: {name: work.queue}", "  work: {name: work.queue}\n  other: {name: o}")
    )
    bench.set_up(two)
    bench.put(QUEUE, b"poison")
    with running(consumer_of(bench, two, Calls())):
        bench.wait_for_depth(DEAD, 1)

    assert bench.depth("o.dlq") == 0


def test_a_queue_without_dead_letters_drops_what_fails_for_good_and_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    dropping = topology_of(WORK.replace("name: work.queue", "name: dropping, dead_letter: false"))
    bench.set_up(dropping)
    bench.put("dropping", b"poison")
    consumer = consumer_of(bench, dropping, Calls())
    with running(consumer):
        wait_until(lambda: consumer.status.dead_lettered == 1, "it is given up")
        wait_until(lambda: consumer.status.in_flight == 0, "it is settled")

    assert bench.depth("dropping") == 0
    assert "is dropped: queue 'dropping' has no dead letter exchange" in caplog.text


def test_a_dead_letter_that_cannot_be_published_leaves_the_original_in_its_queue(
    bench: Bench, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_session, "RETRY_S", 0.05)
    calls = failing(Reject("never"))
    with running(consumer := consumer_of(bench, topology, calls)):
        wait_for_state(consumer, "consuming")
        bench.channel.exchange_delete("dlx")
        bench.put(QUEUE, encode(Envelope.of(request(1))))
        calls.wait_for(1)
        assert consumer.status.in_flight == 1
        consumer.stop(5)
        assert consumer.join(30)

    assert consumer.status.dead_lettered == 0
    assert len(calls.messages) == 1
    assert decode(bench.take_when_there(QUEUE).body).payload["execution_id"] == 1


def test_a_dead_letter_is_published_when_its_exchange_is_back_and_the_handler_is_not_asked_again(
    bench: Bench, topology: Topology, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(channel_session, "RETRY_S", 0.05)
    calls = failing(Reject("never"))
    with running(consumer := consumer_of(bench, topology, calls)):
        wait_for_state(consumer, "consuming")
        bench.channel.exchange_delete("dlx")
        bench.put(QUEUE, encode(Envelope.of(request(1))))
        wait_until(lambda: caplog.text.count("Republish failed") > 1, "it is tried again")
        bench.set_up(topology)
        bench.take_when_there(DEAD)

    assert len(calls.messages) == 1
    assert bench.depth(QUEUE) == 0


# What comes back unsettled.


def test_a_message_that_came_back_is_counted_on_a_classic_queue_and_then_handled(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    publisher.publish(request(1))
    hand_out_and_take_back(bench, QUEUE, times=2)
    calls = Calls()
    with running(consumer_of(bench, topology, calls)):
        (message,) = calls.wait_for(1)

    assert message.delivery.redeliveries == 1  # "redelivered" says no more than "not the first"
    assert message.attempt == 1
    assert message.delivery.headers["x-attune-exchange"] == "work"


def test_a_message_that_is_deadly_to_its_handlers_is_given_up_on_a_classic_queue(
    bench: Bench, topology: Topology
) -> None:
    headers = {"x-attune-redeliveries": MAX_REDELIVERIES}
    bench.put(QUEUE, encode(Envelope.of(request(1))), pika.BasicProperties(headers=headers))
    hand_out_and_take_back(bench, QUEUE, times=1)
    calls = Calls()
    with running(consumer_of(bench, topology, calls)):
        dead = bench.take_when_there(DEAD)

    assert calls.messages == []
    assert dead.headers["x-attune-reason"] == "redelivered"
    assert dead.headers["x-attune-redeliveries"] == MAX_REDELIVERIES


def test_a_quorum_queue_counts_by_itself_and_the_message_is_given_up_as_on_a_classic_one(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    quorum = topology_of(WORK.replace("name: work.queue", "name: quorum, type: quorum"))
    bench.set_up(quorum)
    bench.put("quorum", encode(Envelope.of(request(1))))
    hand_out_and_take_back(bench, "quorum", times=2)
    calls = Calls()
    consumer = consumer_of(bench, quorum, calls)
    with running(consumer):
        (message,) = calls.wait_for(1)
        wait_until(lambda: consumer.status.in_flight == 0, "it is acknowledged")
        assert message.delivery.redeliveries == (2 if Rabbit.of(broker).counts_nacks else 0)
        assert message.delivery.redelivered  # so it is no copy
        assert bench.depth("quorum") == 0

    bench.put("quorum", encode(Envelope.of(request(2))))
    hand_out_and_take_back(bench, "quorum", times=MAX_REDELIVERIES + 1, by="reject")
    with running(consumer_of(bench, quorum, calls)):
        dead = bench.take_when_there("quorum.dlq")

    assert len(calls.messages) == 1
    # From RabbitMQ 4.0 on the broker is quicker to give it up, and says so in its own words.
    given_up = dead.headers.get("x-attune-reason") or dead.headers["x-death"][0]["reason"]
    assert given_up in ("redelivered", "delivery_limit")


def hand_out_and_take_back(
    bench: Bench, queue: str, times: int, *, by: Literal["nack", "reject"] = "nack"
) -> None:
    for _ in range(times):
        wait_until(lambda: bench.depth(queue) > 0, f"a message in {queue}")
        method, _, _ = bench.channel.basic_get(queue)
        assert method is not None
        take_back = bench.channel.basic_nack if by == "nack" else bench.channel.basic_reject
        take_back(method.delivery_tag or 0, requeue=True)


# Tags, queues and infrastructure.


def test_the_broker_knows_the_consumer_by_the_tag_of_the_topology(
    bench: Bench, broker: EmbeddedBroker, topology: Topology
) -> None:
    plain = consumer_of(bench, topology, Calls())
    named = consumer_of(bench, topology, Calls(), instance="host-7")
    with running(plain, named):
        bench.wait_for_consumers(QUEUE, 2)
        vhost = virtual_host_of(bench.url)
        listed = broker.rabbitmqctl(
            "list_consumers", "--quiet", "--no-table-headers", "--vhost", vhost, "consumer_tag"
        )

    assert sorted(listed.split()) == ["worker", "worker@host-7"]


def test_a_tag_that_is_in_use_is_refused_before_the_broker_is_asked(topology: Topology) -> None:
    first = Consumer(topology, "worker", Handlers(), CLOSED_URL)
    second = Consumer(topology, "worker", Handlers(), CLOSED_URL)
    with running(first), pytest.raises(DuplicateConsumerTag, match="'worker' is in use"):
        second.start()

    with running(second):  # the tag is free again
        pass


def test_a_tag_that_the_file_does_not_have_is_an_error(topology: Topology) -> None:
    with pytest.raises(UnknownName, match="worker"):
        Consumer(topology, "wroker", Handlers(), CLOSED_URL)


def test_a_consumer_makes_what_the_topology_has_and_the_broker_lacks(
    broker_url: str, topology: Topology
) -> None:
    calls = Calls()
    consumer = Consumer(topology, "worker", handlers_of(calls), broker_url)
    with running(consumer), Publisher(topology, broker_url) as publisher:
        wait_for_state(consumer, "consuming")
        publisher.publish(request(1))
        calls.wait_for(1)


def test_a_consumer_that_only_verifies_creates_nothing_and_waits(
    broker_url: str, topology: Topology
) -> None:
    bench = Bench(broker_url)
    consumer = consumer_of(bench, topology, Calls(), setup="verify")
    with running(consumer):
        wait_until(lambda: "work.queue" in str(consumer.status.detail), "it says what is missing")
        assert consumer.status.state == "connecting"
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
            bench.depth(QUEUE)

        bench.set_up(topology)
        wait_for_state(consumer, "consuming")
        assert consumer.status.detail is None
    bench.close()


def test_a_consumer_of_a_server_named_queue_makes_its_own(bench: Bench) -> None:
    watching = topology_of("""
version: 1
exchanges:
  metadata: {name: metadata, type: topic}
queues:
  changes: {name: "", exclusive: true, auto_delete: true, durable: false}
bindings:
  - {source: metadata, destination: changes, routing_keys: [action.changed, pack.changed]}
messages:
  ExecutionRequested: {exchange: metadata, routing_key: pack.changed, publishers: [api]}
consumers:
  worker: {service: tests, queue: changes}
""")
    bench.set_up(watching)
    replicas = [Calls(), failing(RetryLater("busy", delay_s=0))]
    consumers = [
        consumer_of(bench, watching, calls, instance=str(number))
        for number, calls in enumerate(replicas)
    ]
    with running(*consumers), Publisher(watching, bench.url) as publisher:
        for consumer in consumers:
            wait_for_state(consumer, "consuming")
        publisher.publish(request(1))

        replicas[0].wait_for(1)
        assert [message.attempt for message in replicas[1].wait_for(3)] == [1, 2, 3]
        names = {consumer.status.queue for consumer in consumers}
        assert len(names) == 2
        assert all(name.startswith("amq.gen-") for name in names)


def test_handlers_publish_with_the_publisher_of_their_service(bench: Bench) -> None:
    chained = topology_of(
        WORK.replace("messages:", "messages:\n  ExecutionCompleted: {exchange: work, "
                     "routing_key: requested, publishers: [tests]}")
    )  # fmt: skip
    bench.set_up(chained)
    with Publisher(chained, bench.url) as publisher:
        done = ExecutionCompleted(
            execution_id=1,
            action_id=1,
            action_ref="core.echo",
            status="completed",
            completed_at=datetime.now(UTC),
        )
        requests, completions = Calls(lambda _: None), Calls()
        handlers = Handlers()
        handlers.on(ExecutionCompleted)(completions)

        @handlers.on(ExecutionRequested)
        def execute(message: Message[ExecutionRequested]) -> None:
            requests(message)
            publisher.publish(done, correlation_id=message.envelope.correlation_id)

        publisher.publish(request(1), correlation_id="story")
        with running(Consumer(chained, "worker", handlers, bench.url, publisher=publisher)):
            (message,) = completions.wait_for(1)

    assert message.envelope.correlation_id == "story"


# Its life.


def test_a_consumer_leaves_no_thread_and_no_file_descriptor(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    publisher.publish(request(1))
    publisher.close()
    before = open_threads_and_descriptors()
    calls = failing(Reject("so that it needs a publisher of its own"))
    consumer = consumer_of(bench, topology, calls, concurrency=4)
    with running(consumer):
        bench.wait_for_depth(DEAD, 1)

    assert open_threads_and_descriptors() - before == set()
    assert consumer.status.state == "stopped"


def open_threads_and_descriptors() -> set[str]:
    """Each by a name of its own: what earlier tests left may go at any moment."""
    gc.collect()  # a socket that pika dropped is closed when it is collected
    names = {f"{thread.name} {thread.ident}" for thread in threading.enumerate()}
    for descriptor in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            names.add(os.readlink(f"/dev/fd/{descriptor}"))
    return names


def test_a_consumer_runs_in_the_thread_of_its_caller(
    bench: Bench, topology: Topology, publisher: Publisher
) -> None:
    publisher.publish(request(1))
    consumer = consumer_of(bench, topology, Calls(lambda _: consumer.stop(5)))

    consumer.run()

    assert consumer.status.handled == 1
    assert consumer.status.state == "stopped"


def test_a_consumer_stops_while_it_waits_for_a_broker(topology: Topology) -> None:
    consumer = Consumer(topology, "worker", Handlers(), CLOSED_URL)
    with running(consumer):
        wait_until(lambda: "connection refused" in str(consumer.status.detail), "it says why")
        assert consumer.status.state == "connecting"

    wait_for_state(consumer, "stopped")

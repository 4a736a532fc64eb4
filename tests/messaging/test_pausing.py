"""A pause, not a massacre: while what handlers need is away nothing is counted, nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from attune_mq import Consumer, Message, Publisher, Telemetry, Topology
from attune_mq.consuming import channel_session
from attune_mq.errors import BrokerUnavailable, DependencyUnavailable
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
    topology_of,
    wait_for,
    wait_for_state,
)
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until

PREFETCH = 10  # of the topology of the bench


@pytest.fixture(autouse=True)
def _tried_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_mq.consuming.pausing.LONGEST_PAUSE_S", 0.3)


class Dependency:
    """Something that handlers need, which is away until :meth:`come_back`."""

    def __init__(self) -> None:
        self.is_there = threading.Event()

    def __call__(self, _message: Message[Any]) -> None:
        if not self.is_there.is_set():
            raise DependencyUnavailable("billing", "it does not answer")

    def come_back(self) -> None:
        self.is_there.set()


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


def publish(bench: Bench, topology: Topology, count: int) -> None:
    with Publisher(topology, bench.url) as publisher:
        publisher.publish_many(request(number) for number in range(count))


def wait_until_paused(consumer: Consumer, held: int = PREFETCH) -> None:
    wait_for_state(consumer, "paused")
    wait_until(lambda: consumer.status.in_flight == held, f"it holds {held} messages")


# An HTTP API that is down.


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def http_api(port: int) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", port), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join(WAIT_S)


def test_thousands_of_messages_outlive_an_http_api_that_is_down(
    bench: Bench, topology: Topology
) -> None:
    with http_api(0) as port:
        pass  # it has gone down

    def call_api(_message: Message[Any]) -> None:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            pass

    calls = Calls(call_api)
    handlers = handlers_of(calls)
    handlers.depends_on("HTTP API", URLError, ConnectionError, TimeoutError)
    publish(bench, topology, 3_000)
    consumer = Consumer(topology, "worker", handlers, bench.url, concurrency=4)
    with running(consumer):
        wait_until_paused(consumer)
        tried = len(calls.messages)
        wait_until(lambda: len(calls.messages) > tried + 3, "it tries now and then")
        status = consumer.status
        assert status.in_flight == PREFETCH
        assert status.handled + status.retried + status.dead_lettered == 0
        assert "HTTP API: urllib.error.URLError" in str(status.detail)
        assert bench.depth(QUEUE) == 3_000 - PREFETCH

        with http_api(port):
            wait_until(lambda: consumer.status.handled == 3_000, "all are handled")
    assert set(calls.ids) == set(range(3_000))
    assert {message.attempt for message in calls.messages} == {1}
    assert bench.depth(QUEUE) + bench.depth(DEAD) == 0


# What a pause is.


def test_only_one_message_is_tried_at_a_time(
    bench: Bench, topology: Topology, dependency: Dependency
) -> None:
    """And it is one that had failed: another may not need what is away."""
    calls = Calls(dependency)
    publish(bench, topology, 100)
    consumer = consumer_of(bench, topology, calls, concurrency=1)
    with running(consumer):
        wait_until_paused(consumer)
        calls.wait_for(5)
        assert set(calls.ids) == {0}

        dependency.come_back()
        wait_until(lambda: consumer.status.handled == 100, "all are handled")
    assert [number for number in calls.ids if number] == list(range(1, 100))


def test_a_broker_that_a_handler_cannot_reach_is_away_without_being_registered(
    bench: Bench, topology: Topology
) -> None:
    is_away = [BrokerUnavailable("connection refused")] * 3

    def work(_message: Message[Any]) -> None:
        if is_away:
            raise is_away.pop()

    calls = Calls(work)
    publish(bench, topology, 1)
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        wait_until(lambda: consumer.status.handled == 1, "it is handled")
    assert [message.attempt for message in calls.messages] == [1] * 4


def test_a_question_may_tell_an_error_that_means_that_something_is_away(
    bench: Bench, topology: Topology
) -> None:
    errors = [OSError(5, "away"), OSError(6, "not away")]

    def work(_message: Message[Any]) -> None:
        if errors:
            raise errors.pop(0)

    calls = Calls(work)
    handlers = handlers_of(calls)
    handlers.depends_on("disk", lambda error: isinstance(error, OSError) and error.errno == 5)
    publish(bench, topology, 1)
    consumer = Consumer(topology, "worker", handlers, bench.url)
    with running(consumer):
        wait_until(lambda: consumer.status.handled == 1, "it is handled")
    assert [message.attempt for message in calls.messages] == [1, 1, 2]


def test_a_probe_is_asked_instead_of_the_handler(
    bench: Bench, topology: Topology, dependency: Dependency
) -> None:
    calls = Calls(dependency)
    asked = threading.Semaphore(0)

    def probe() -> None:
        asked.release()
        dependency(None)  # type: ignore[arg-type]

    handlers = handlers_of(calls)
    handlers.depends_on("billing", probe=probe)
    publish(bench, topology, 100)
    consumer = Consumer(topology, "worker", handlers, bench.url, concurrency=1)
    with running(consumer):
        for _ in range(4):
            assert asked.acquire(timeout=WAIT_S)
        assert len(calls.messages) == 1

        dependency.come_back()
        wait_until(lambda: consumer.status.handled == 100, "all are handled")


def test_a_message_that_nobody_can_read_does_not_end_a_pause(
    bench: Bench, topology: Topology, dependency: Dependency
) -> None:
    bench.put(QUEUE, b"no envelope")
    publish(bench, topology, 5)
    calls = Calls(dependency)
    gate = Gate()

    def first(message: Message[Any]) -> None:
        gate(message)
        dependency(message)

    consumer = consumer_of(bench, topology, Calls(first), concurrency=2)
    with running(consumer):
        wait_for(gate.entered, "a handler runs")
        bench.wait_for_depth(DEAD, 1)
        gate.let_through.set()
        bench.put(QUEUE, b"nor this")
        wait_until_paused(consumer, held=6)

        dependency.come_back()
        wait_until(lambda: consumer.status.handled == 5, "all are handled")
        bench.wait_for_depth(DEAD, 2)
    assert calls.messages == []


def test_any_other_failure_counts_as_ever(bench: Bench) -> None:
    topology = topology_of(retry="{attempts: 2, backoff: [10ms]}")
    bench.channel.queue_delete(QUEUE)
    bench.set_up(topology)

    def work(_message: Message[Any]) -> None:
        raise ValueError("no")

    publish(bench, topology, 3)
    consumer = consumer_of(bench, topology, Calls(work))
    with running(consumer):
        bench.wait_for_depth(DEAD, 3)
        assert consumer.status.state == "consuming"


# What a pause outlives.


def test_what_is_held_goes_back_at_once_when_the_consumer_stops(
    bench: Bench, topology: Topology, dependency: Dependency
) -> None:
    publish(bench, topology, 50)
    consumer = consumer_of(bench, topology, Calls(dependency))
    consumer.start()
    wait_until_paused(consumer)

    consumer.stop(600)

    assert consumer.join(WAIT_S)
    bench.wait_for_depth(QUEUE, 50)


def test_a_pause_goes_on_after_a_lost_connection(
    bench: Bench, topology: Topology, dependency: Dependency, proxy: Proxy
) -> None:
    calls = Calls(dependency)
    publish(bench, topology, 50)
    consumer = Consumer(topology, "worker", handlers_of(calls), proxy.url)
    with running(consumer):
        wait_until_paused(consumer)
        since_s = consumer.status.since_s
        proxy.cut()
        wait_until(lambda: consumer.status.connections == 2, "it connects again")
        wait_until_paused(consumer)
        assert consumer.status.since_s == since_s

        dependency.come_back()
        wait_until(lambda: consumer.status.handled == 50, "all are handled")
    assert bench.depth(QUEUE) + bench.depth(DEAD) == 0


def test_what_is_held_for_too_long_leaves_as_a_fresh_copy(
    bench: Bench, topology: Topology, dependency: Dependency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the broker takes the consumer for broken; others may get it meanwhile."""
    monkeypatch.setattr(channel_session, "LONGEST_HOLD_S", 0.3)
    calls = Calls(dependency)
    publish(bench, topology, 30)
    consumer = consumer_of(bench, topology, calls, concurrency=1)
    with running(consumer):
        wait_until(lambda: any(each >= PREFETCH for each in calls.ids), "others have their turn")
        assert consumer.status.state == "paused"
        assert consumer.status.retried + consumer.status.dead_lettered == 0

        monkeypatch.undo()
        dependency.come_back()
        wait_until(lambda: consumer.status.handled == 30, "all are handled")
    assert set(calls.ids) == set(range(30))
    assert {message.attempt for message in calls.messages} == {1}
    assert bench.depth(QUEUE) + bench.depth(DEAD) == 0


def test_a_quorum_queue_counts_nothing_during_a_pause(bench: Bench, dependency: Dependency) -> None:
    """On RabbitMQ 4.0 each return would count, and the twentieth would be the last."""
    topology = topology_of(type="quorum")
    bench.channel.queue_delete(QUEUE)
    bench.set_up(topology)
    calls = Calls(dependency)
    publish(bench, topology, 20)
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        wait_until_paused(consumer)
        calls.wait_for(30)
        dependency.come_back()
        wait_until(lambda: consumer.status.handled == 20, "all are handled")
    assert {message.delivery.redeliveries for message in calls.messages} == {0}


def test_where_there_is_nothing_to_try_with_the_next_message_is_the_trial(
    bench: Bench, topology: Topology, dependency: Dependency
) -> None:
    """Its messages went elsewhere: nothing is held, and nothing keeps it from going on."""
    publish(bench, topology, 1)
    consumer = consumer_of(bench, topology, Calls(dependency))
    with running(consumer):
        wait_until_paused(consumer, held=1)
        subscription = consumer._subscription
        assert subscription is not None
        session = subscription._session
        assert session is not None
        wait_until(lambda: bool(session._held), "it is not being tried")
        with subscription._connection.loop.lock:
            session._acknowledge({one.delivery_tag for one in session._release_held()})
        wait_for_state(consumer, "consuming")


def test_nothing_is_remembered_of_messages_that_are_gone(
    bench: Bench, topology: Topology, dependency: Dependency
) -> None:
    """A connection lives for months, and may see a pause a minute."""
    publish(bench, topology, PREFETCH)
    consumer = consumer_of(bench, topology, Calls(dependency))
    with running(consumer):
        wait_until_paused(consumer)
        dependency.come_back()
        wait_until(lambda: consumer.status.handled == PREFETCH, "all are handled")
        subscription = consumer._subscription
        assert subscription is not None
        kept = {
            name: value
            for name, value in vars(subscription._session).items()
            if isinstance(value, Collection) and name != "_timers"  # they end with their time
        }
        assert {name for name, value in kept.items() if value} == set()
        assert "_held" in kept


def test_a_pause_is_told(bench: Bench, topology: Topology, dependency: Dependency) -> None:
    told: list[tuple[object, ...]] = []

    class Listening(Telemetry):
        def paused(self, tag: str, dependency: str) -> None:
            told.append(("paused", tag, dependency))

        def resumed(self, tag: str, dependency: str, seconds: float) -> None:
            told.append(("resumed", tag, dependency, seconds > 0))

    publish(bench, topology, 1)
    consumer = consumer_of(bench, topology, Calls(dependency), telemetry=Listening())
    with running(consumer):
        wait_until_paused(consumer, held=1)
        dependency.come_back()
        wait_until(lambda: consumer.status.handled == 1, "it is handled")
    assert told == [("paused", "worker", "billing"), ("resumed", "worker", "billing", True)]

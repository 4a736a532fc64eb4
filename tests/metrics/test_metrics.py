"""What a scrape tells, of services at work on a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.errors import DependencyUnavailable, Reject, RetryLater, Unroutable
from attune_mq.message.delivery import Message
from attune_mq.metrics import METRICS, SCRAPE_TIMEOUT_S, Metrics
from attune_mq.payloads import ExecutionRequested
from attune_mq.service import Service
from attune_mq.topology.families import instantiate
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Route, Topology
from attune_mq.transactional import Backlog, Failing
from tests.messaging.bench import DEAD, QUEUE, Bench, Calls, Gate, request, topology_of, wait_for
from tests.messaging.bodies import body
from tests.messaging.proxy import Proxy
from tests.metrics.scraping import Scrape
from tests.waiting import wait_until

CONSUMER = {"queue": QUEUE, "tag": "worker"}
CONSUMED = {**CONSUMER, "type": "ExecutionRequested"}
PUBLISHED = {"exchange": "work", "type": "ExecutionRequested"}


@pytest.fixture
def metrics(topology: Topology) -> Metrics:
    return Metrics(topology)


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    yield bench
    bench.close()


@contextmanager
def serving(
    topology: Topology,
    url: str,
    metrics: Metrics,
    work: Callable[[Message[Any]], None] | None = None,
    **options: Any,
) -> Iterator[Service]:
    """A service named "tests", on which nothing is left unsaid when it has stopped."""
    service = Service("tests", topology, url, telemetry=metrics, **options)
    service.on(ExecutionRequested)(work or Calls())
    metrics.watch(service)
    service.start()
    try:
        wait_until(lambda: all(one.state == "consuming" for one in service.consumers), "it runs")
        yield service
    finally:
        service.stop(5)


def wait_for_value(metrics: Metrics, expected: float, name: str, **labels: str) -> Scrape:
    wait_until(
        lambda: Scrape(metrics).value(name, **labels) == expected, f"{name} {labels} is {expected}"
    )
    return Scrape(metrics)


# What happens.


def test_what_is_consumed_is_counted_by_queue_tag_and_type(
    topology: Topology, metrics: Metrics, broker_url: str
) -> None:
    with serving(topology, broker_url, metrics) as service:
        service.publisher.publish_many([request(1), request(2)])
        scrape = wait_for_value(metrics, 2, "messages_consumed_total", **CONSUMED)

    assert scrape.value("messages_delivered_total", **CONSUMER) == 2
    assert scrape.value("messages_redelivered_total", **CONSUMER) == 0
    assert scrape.value("messages_published_total", **PUBLISHED) == 2
    assert scrape.value("handling_seconds_count", **CONSUMED) == 2
    assert scrape.value("time_in_queue_seconds_count", **CONSUMED) == 2
    assert scrape.value("confirm_seconds_count", exchange="work") == 2
    assert scrape.value("connection_blocked", connection="tests publisher") == 0


def test_retries_and_dead_letters_are_counted_and_so_are_their_copies(
    topology: Topology, metrics: Metrics, broker_url: str
) -> None:
    def work(message: Message[Any]) -> None:
        if message.attempt == 1:
            raise RetryLater("not yet", delay_s=0)
        raise Reject("never")

    rejected = {**CONSUMED, "reason": "rejected"}
    with serving(topology, broker_url, metrics, work) as service:
        service.publisher.publish(request(1))
        scrape = wait_for_value(metrics, 1, "messages_dead_lettered_total", **rejected)

    copies = {"type": "ExecutionRequested"}
    assert scrape.value("messages_retried_total", **CONSUMED) == 1
    assert scrape.value("messages_consumed_total", **CONSUMED) == 0
    assert scrape.value("messages_published_total", exchange="(default)", **copies) == 1
    assert scrape.value("messages_published_total", exchange="dlx", **copies) == 1
    assert scrape.value("handling_seconds_count", **CONSUMED) == 2
    assert scrape.value("time_in_queue_seconds_count", **CONSUMED) == 1, "the first attempt alone"


def test_what_is_dropped_is_not_taken_for_a_dead_letter(broker_url: str) -> None:
    topology = topology_of(dead_letter="false")
    metrics = Metrics(topology)

    def work(_message: Message[Any]) -> None:
        raise Reject("never")

    with serving(topology, broker_url, metrics, work) as service:
        service.publisher.publish(request(1))
        dropped = {**CONSUMED, "reason": "rejected"}
        scrape = wait_for_value(metrics, 1, "messages_dropped_total", **dropped)

    assert scrape.of("messages_dead_lettered_total") == []


def test_what_is_requeued_is_counted(
    topology: Topology, metrics: Metrics, broker_url: str, gate: Gate
) -> None:
    with serving(topology, broker_url, metrics, gate) as service:
        service.publisher.publish_many([request(1), request(2)])
        wait_for(gate.entered, "the first is begun")
        wait_for_value(metrics, 2, "messages_delivered_total", **CONSUMER)
        stopping = threading.Thread(target=service.stop, args=(5,))
        stopping.start()
        wait_for_value(metrics, 1, "messages_requeued_total", **CONSUMER, reason="stopping")
        gate.let_through.set()
        stopping.join()


def test_a_pause_is_counted_by_what_was_away_and_seen_as_a_state(
    topology: Topology, metrics: Metrics, broker_url: str
) -> None:
    is_back = threading.Event()

    def work(_message: Message[Any]) -> None:
        if not is_back.is_set():
            raise DependencyUnavailable("billing", "it does not answer")

    with serving(topology, broker_url, metrics, work) as service:
        service.publisher.publish(request(1))
        scrape = wait_for_value(metrics, 1, "consumer_state", **CONSUMER, state="paused")
        pauses = scrape.value("consumer_pauses_total", **CONSUMER, dependency="billing")
        is_back.set()
        scrape = wait_for_value(metrics, 1, "messages_consumed_total", **CONSUMED)

    assert pauses == 1
    assert scrape.value("messages_retried_total", **CONSUMED) == 0
    assert scrape.value("time_in_queue_seconds_count", **CONSUMED) == 1


def test_what_no_queue_takes_is_counted_as_unroutable(
    topology: Topology, metrics: Metrics, broker_url: str
) -> None:
    with serving(topology, broker_url, metrics) as service, pytest.raises(Unroutable):
        service.publisher.publish(request(1), route=Route("work", "nobody"))

    scrape = Scrape(metrics)
    assert scrape.value("messages_unroutable_total", **PUBLISHED) == 1
    assert scrape.value("messages_published_total", **PUBLISHED) is None


def test_a_lost_connection_is_counted_for_each_who_had_one(
    topology: Topology, metrics: Metrics, broker_url: str, proxy: Proxy
) -> None:
    with serving(topology, proxy.url, metrics) as service:
        service.publisher.publish(request(1))
        wait_for_value(metrics, 1, "messages_consumed_total", **CONSUMED)
        assert Scrape(metrics).value("connections_lost_total", connection="worker") == 0
        proxy.cut()
        wait_for_value(metrics, 2, "connections_opened_total", connection="worker")
        wait_for_value(metrics, 2, "connections_opened_total", connection="tests publisher")

    scrape = Scrape(metrics)
    assert scrape.value("connections_lost_total", connection="worker") == 1
    assert scrape.value("connections_lost_total", connection="tests publisher") == 1


# What is.


def test_a_consumer_tells_its_state_what_it_holds_and_how_much_that_may_be(
    topology: Topology, metrics: Metrics, broker_url: str, gate: Gate
) -> None:
    with serving(topology, broker_url, metrics, gate) as service:
        service.publisher.publish_many([request(1), request(2)])
        wait_for(gate.entered, "it is at work")
        scrape = wait_for_value(metrics, 2, "consumer_in_flight", **CONSUMER)
        gate.let_through.set()

    assert scrape.value("consumer_prefetch", **CONSUMER) == 10
    assert scrape.value("consumer_state", **CONSUMER, state="consuming") == 1
    assert scrape.value("consumer_state", **CONSUMER, state="connecting") == 0
    assert scrape.value("confirms_waiting") == 0
    assert Scrape(metrics).value("consumer_state", **CONSUMER, state="stopped") == 1


def test_depths_are_told_by_queue_and_by_what_the_queue_is_for(
    topology: Topology, metrics: Metrics, bench: Bench, broker: EmbeddedBroker, gate: Gate
) -> None:
    with serving(topology, bench.url, metrics, gate) as service:
        metrics.watch_queues(topology, service.settings, management_url=broker.management_url)
        bench.put(DEAD, b"dead")
        service.publisher.publish_many([request(n) for n in range(12)])
        wait_for_value(metrics, 10, "queue_messages_unacked", queue=QUEUE, purpose="main")
        scrape = Scrape(metrics)
        gate.let_through.set()

    assert scrape.value("queue_messages_ready", queue=QUEUE, purpose="main") == 2
    assert scrape.value("queue_messages_ready", queue=DEAD, purpose="dead_letter") == 1
    assert scrape.value("queue_consumers", queue=QUEUE, purpose="main") == 1


def test_without_the_http_api_unacknowledged_messages_are_not_told(
    topology: Topology, metrics: Metrics, broker_url: str
) -> None:
    with serving(topology, broker_url, metrics) as service:
        metrics.watch_queues(topology, service.settings)
        scrape = wait_for_value(metrics, 0, "queue_messages_ready", queue=QUEUE, purpose="main")

    assert scrape.of("queue_messages_unacked") == []


def test_a_queue_that_is_gone_is_left_out(
    topology: Topology, metrics: Metrics, bench: Bench
) -> None:
    with serving(topology, bench.url, metrics) as service:
        metrics.watch_queues(topology, service.settings)
        bench.channel.queue_delete(DEAD)
        scrape = wait_for_value(metrics, 0, "queue_messages_ready", queue=QUEUE, purpose="main")

    assert scrape.value("queue_messages_ready", queue=DEAD, purpose="dead_letter") is None


def test_the_outbox_tells_what_it_owes(metrics: Metrics) -> None:
    metrics.watch_outbox(lambda: Backlog(3, 1.5))

    scrape = wait_for_value(metrics, 3, "outbox_messages")
    assert scrape.value("outbox_oldest_seconds") == 1.5


def test_what_fails_of_the_outbox_is_told_by_cause_and_what_does_not_is_zero(
    metrics: Metrics,
) -> None:
    metrics.watch_outbox(lambda: Backlog(3, 1.5), lambda: [Failing("refused", 2, 1.5)])

    scrape = wait_for_value(metrics, 2, "outbox_failing_messages", cause="refused")
    assert scrape.value("outbox_failing_oldest_seconds", cause="refused") == 1.5
    for cause in ("unroutable", "unconfirmed", "other"):
        assert scrape.value("outbox_failing_messages", cause=cause) == 0
        assert scrape.value("outbox_failing_oldest_seconds", cause=cause) == 0


def test_an_outbox_that_cannot_be_asked_is_left_out(metrics: Metrics) -> None:
    def ask() -> Backlog:
        raise OSError("no route to host")

    metrics.watch_outbox(ask)

    assert Scrape(metrics).value("outbox_messages") is None


def test_a_database_is_up_unless_something_is_wrong_with_it(metrics: Metrics) -> None:
    troubles: list[str] = []
    metrics.watch_database(lambda: troubles[-1] if troubles else None)

    assert Scrape(metrics).value("database_up") == 1
    troubles.append("it is locked")
    assert Scrape(metrics).value("database_up") == 0


def test_who_hangs_holds_a_scrape_up_for_no_longer_than_its_patience_and_is_asked_once(
    metrics: Metrics,
) -> None:
    asked: list[None] = []
    let_go = threading.Event()

    def ask() -> Backlog:
        asked.append(None)
        let_go.wait(30)
        return Backlog(1, 0.0)

    metrics.watch_outbox(ask)
    began_at = time.monotonic()
    assert Scrape(metrics).value("outbox_messages") is None
    assert Scrape(metrics).value("outbox_messages") is None
    assert time.monotonic() - began_at < 10 * SCRAPE_TIMEOUT_S, "not the 30 s of the query"
    assert len(asked) == 1

    let_go.set()
    wait_for_value(metrics, 1, "outbox_messages")


# Labels.


def test_whatever_strangers_send_makes_no_label(
    topology: Topology, metrics: Metrics, bench: Bench
) -> None:
    unhandled = {**CONSUMER, "type": "other", "reason": "unhandled"}
    with serving(topology, bench.url, metrics):
        for number in range(20):
            bench.put(QUEUE, body(message_type=f"Strange{number}"))
        scrape = wait_for_value(metrics, 20, "messages_dead_lettered_total", **unhandled)
        bench.put(QUEUE, b"no JSON")
        unread = {**CONSUMER, "type": "unread", "reason": "unreadable"}
        wait_for_value(metrics, 1, "messages_dead_lettered_total", **unread)

    assert {"type": "other", "exchange": "dlx"} in scrape.of("messages_published_total")
    assert scrape.labels("type") == {"ExecutionRequested", "other"}


def test_an_instance_is_told_apart_by_no_label_of_ours(
    topology: Topology, metrics: Metrics, broker_url: str
) -> None:
    with serving(topology, broker_url, metrics, instance="host-7") as service:
        service.publisher.publish(request(1))
        wait_for_value(metrics, 1, "messages_consumed_total", **CONSUMED)


FAMILY = """
version: 1
exchanges: {work: {name: work, type: direct}}
families:
  worker:
    parameters: [worker_id]
    queues:
      work: {name: "worker.{worker_id}.work"}
      packs: {name: "worker.{worker_id}.packs"}
    bindings:
      - {source: work, destination: work, routing_key: "worker.{worker_id}"}
    messages:
      ExecutionRequested: {exchange: work, routing_key: "worker.{worker_id}", publishers: [tests]}
    consumers:
      "worker-{worker_id}": {service: tests, queue: work}
      "worker-{worker_id}-packs": {service: packs, queue: packs}
"""


def test_a_worker_is_told_by_its_family_whatever_its_id(broker_url: str) -> None:
    topology = parse_topology(FAMILY, file="topology.yaml", environment={})
    metrics = Metrics(topology)
    consumer = {"queue": "worker.{worker_id}.work", "tag": "worker-{worker_id}"}
    with serving(topology, broker_url, metrics, family="worker", worker_id=7) as service:
        metrics.watch_queues(instantiate(topology, "worker", worker_id=7), service.settings)
        service.publisher.publish(request(1))
        consumed = {**consumer, "type": "ExecutionRequested"}
        scrape = wait_for_value(metrics, 1, "messages_consumed_total", **consumed)
        assert scrape.value("consumer_prefetch", **consumer) == 10
        queue = {"queue": "worker.{worker_id}.packs", "purpose": "main"}
        wait_for_value(metrics, 0, "queue_messages_ready", **queue)

    assert metrics_of(metrics, "worker-8-packs") == ("worker.{worker_id}.packs",)


def metrics_of(metrics: Metrics, tag: str) -> tuple[str, ...]:
    """The queue by which a consumer is told."""
    metrics.expect_consumer(tag, (), drops=False)
    told = Scrape(metrics).of("messages_delivered_total")
    return tuple(one["queue"] for one in told if one["tag"] == "worker-{worker_id}-packs")


PRIVATE = """
version: 1
exchanges: {news: {name: news, type: fanout}}
queues: {mine: {name: "", exclusive: true, durable: false}}
bindings: [{source: news, destination: mine}]
messages: {ExecutionRequested: {exchange: news, publishers: [tests]}}
consumers: {worker: {service: tests, queue: mine}}
"""


def test_a_queue_that_the_broker_names_is_told_by_its_key(broker_url: str) -> None:
    topology = parse_topology(PRIVATE, file="topology.yaml", environment={})
    metrics = Metrics(topology)
    with serving(topology, broker_url, metrics) as service:
        metrics.watch_queues(topology, service.settings)
        service.publisher.publish(request(1))
        labels = {"queue": "mine", "tag": "worker", "type": "ExecutionRequested"}
        scrape = wait_for_value(metrics, 1, "messages_consumed_total", **labels)

    assert scrape.labels("queue") == {"mine"}


# The registry.


def test_a_scrape_holds_the_process_too_and_says_its_format(metrics: Metrics) -> None:
    scrape = Scrape(metrics)

    assert "process_resident_memory_bytes" in {family.name for family in scrape.families}
    assert scrape.content_type.startswith("text/plain")


def test_metrics_can_be_registered_where_others_are_without_asking_anybody(
    metrics: Metrics,
) -> None:
    asked: list[None] = []
    metrics.watch_outbox(lambda: asked.append(None) or Backlog(0, 0.0))  # type: ignore[func-returns-value]
    registry = CollectorRegistry(auto_describe=True)
    registry.register(metrics)

    assert asked == []
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Metrics(topology_of()))


def test_all_that_is_told_is_in_the_table(
    topology: Topology, metrics: Metrics, broker: EmbeddedBroker, broker_url: str
) -> None:
    with serving(topology, broker_url, metrics) as service:
        metrics.watch_queues(topology, service.settings, management_url=broker.management_url)
        metrics.watch_outbox(lambda: Backlog(0, 0.0), list)
        metrics.watch_database(lambda: None)
        scrape = wait_for_value(metrics, 0, "queue_messages_ready", queue=QUEUE, purpose="main")

    told = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in scrape.families
        if family.name.startswith("attune_")
    }
    assert told == {metric.name: metric.kind for metric in METRICS}
    for family in scrape.families:
        metric = next((one for one in METRICS if one.name.startswith(family.name)), None)
        for sample in family.samples if metric else ():
            assert metric is not None
            assert set(sample.labels) - {"le"} == set(metric.labels)

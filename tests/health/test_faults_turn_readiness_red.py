"""No state is green in which messages are not being consumed: each fault is seen, and heals.

How soon a fault is seen is held by how the checks are made, not by a stopwatch: an answer is good
for ``ANSWER_MAX_AGE_S``, and nothing that asks waits for the one who is asked. What it took here
stands in the log of the run, and, from one run, in ``docs/health.md``.
"""

from __future__ import annotations

import ctypes
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pika
import pytest

from attune_mq import (
    BrokerSettings,
    Consumer,
    Envelope,
    HealthServer,
    Message,
    Publisher,
    Service,
    Topology,
)
from attune_mq.amqp import DEFAULT_HEARTBEAT_S, Connection, liveness
from attune_mq.amqp.connection import Channel
from attune_mq.amqp.frames import method_frame
from attune_mq.broker import EmbeddedBroker, ingress_name
from attune_mq.consuming import registration, status as consumer_status
from attune_mq.errors import AttuneError, Reject
from attune_mq.health import HealthReport, checks, topology_watch
from attune_mq.health.topology_watch import TopologyWatch
from attune_mq.lint import consumers
from attune_mq.message import encode
from attune_mq.payloads import ExecutionRequested
from attune_mq.publishing import confirm_connection
from tests import secret_canaries
from tests.messaging.bench import QUEUE, WORK, Bench, Gate, request, topology_of, wait_for
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until

logger = logging.getLogger(__name__)

HEARTBEAT_ENDS_S = 2.0 * DEFAULT_HEARTBEAT_S
"""When pika gives a connection up that is silent."""


def test_an_answer_is_good_for_less_than_two_seconds() -> None:
    """And a fault is seen when the last answer is no longer good."""
    assert checks.ANSWER_MAX_AGE_S < 2.0
    assert checks.ANSWER_MAX_AGE_S == registration.ASK_EVERY_S + checks.ANSWER_WITHIN_S


@pytest.fixture(autouse=True)
def _verified_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a topology has to wait for is the next verification, and tests need not."""
    monkeypatch.setattr(topology_watch, "VERIFY_EVERY_S", 0.5)
    monkeypatch.setattr(topology_watch, "VERIFY_AGAIN_S", 0.5)


@dataclass
class Patient:
    """A service at work, and how it says that it is."""

    service: Service
    health: HealthServer

    @property
    def consumer(self) -> Consumer:
        return self.service._consumers[0]

    def ready(self) -> HealthReport:
        return self.health.monitor.ready()

    def wait_until_green(self) -> None:
        wait_until(lambda: self.ready().is_good, "ready")

    @contextmanager
    def seeing(self, check: str, why: str) -> Iterator[None]:
        """What the block does makes this check red."""
        began = time.monotonic()
        yield
        wait_until(lambda: self.is_red(check, why), f"{check} is red: {why}")
        logger.info("seen after %.2f s: %s: %s", time.monotonic() - began, check, why)

    def is_red(self, check: str, why: str) -> bool:
        return any(check == one.check and why in one.why for one in self.ready().troubles)

    @contextmanager
    def healing(self) -> Iterator[None]:
        yield
        began = time.monotonic()
        self.wait_until_green()
        logger.info("healed after %.2f s", time.monotonic() - began)


@contextmanager
def at_work(
    topology: Topology,
    url: str,
    work: Callable[[Message[Any]], None] = lambda _: None,
    *,
    management_url: str | None = None,
) -> Iterator[Patient]:
    service = Service("tests", topology, url)
    service.on(ExecutionRequested)(work)
    with HealthServer(service, port=0, management_url=management_url) as health:
        service.start()
        patient = Patient(service, health)
        try:
            patient.wait_until_green()
            yield patient
        finally:
            service.stop(2)


@pytest.fixture
def patient(bench: Bench, topology: Topology, proxy: Proxy) -> Iterator[Patient]:
    """Behind a proxy, which can do to a connection what no broker does on request."""
    with at_work(topology, proxy.url) as patient:
        yield patient


def channel_of(consumer: Consumer) -> Channel:
    """Which nobody else has a way to."""
    subscription = consumer._subscription
    assert subscription is not None
    assert subscription._channel is not None
    return subscription._channel


def test_a_broker_that_is_gone(topology: Topology, fault_broker: EmbeddedBroker) -> None:
    with fault_broker.fresh_vhost() as url, at_work(topology, url) as patient:
        try:
            with (
                patient.seeing("topology", "cannot be verified"),
                patient.seeing("consumer worker", "connecting"),
            ):
                fault_broker.kill()
        finally:
            with patient.healing():
                fault_broker.restart()


def test_a_broker_that_stands_still(topology: Topology, fault_broker: EmbeddedBroker) -> None:
    with fault_broker.fresh_vhost() as url, at_work(topology, url) as patient:
        try:
            with patient.seeing("consumer worker", "does not answer"):
                fault_broker.pause()
        finally:
            fault_broker.resume()
        patient.wait_until_green()


@pytest.mark.parametrize("direction", ["to broker", "to client"])
def test_a_connection_that_is_dead_without_a_word(
    patient: Patient, proxy: Proxy, direction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up for a new one long before a heartbeat is missed."""
    monkeypatch.setattr(liveness, "GIVE_UP_AFTER_S", 3.0)
    with patient.seeing("consumer worker", "the broker does not answer on its connection"):
        proxy.stall(direction)

    with patient.healing():
        assert patient.consumer.status.state == "consuming"  # as far as it knows
    assert patient.consumer.status.connections == 2


def test_a_wire_that_stalls_leaves_the_topology_watch_no_longer_in_the_dark_than_the_consumer(
    patient: Patient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a connection of its own, which the heartbeat would end a minute later."""
    monkeypatch.setattr(liveness, "GIVE_UP_AFTER_S", 3.0)
    watch = patient.health.monitor._topology
    proxy.stall("to client")
    stalled_at_s = time.monotonic()

    wait_until(
        lambda: watch._verified_at_s > stalled_at_s,
        "the topology is verified on a new connection",
        deadline_s=HEARTBEAT_ENDS_S - 20.0,
    )
    patient.wait_until_green()


def test_a_connection_that_is_cut(patient: Patient, proxy: Proxy) -> None:
    connections = patient.consumer.status.connections
    proxy.cut()

    wait_until(lambda: patient.consumer.status.connections > connections, "it connects again")
    patient.wait_until_green()


def test_a_queue_that_is_deleted(bench: Bench, topology: Topology) -> None:
    service = Service("tests", topology, bench.url, setup="verify")  # so that it may not mend it
    service.on(ExecutionRequested)(lambda _: None)
    with HealthServer(service, port=0) as health:
        service.start()
        patient = Patient(service, health)
        patient.wait_until_green()
        with (
            patient.seeing("topology", f"queue '{QUEUE}'"),
            patient.seeing("consumer worker", ""),
        ):
            bench.channel.queue_delete(QUEUE)
        with patient.healing():
            bench.set_up(topology)
        service.stop(2)


def test_a_binding_that_is_deleted(
    bench: Bench, topology: Topology, broker: EmbeddedBroker
) -> None:
    """AMQP does not show it, the HTTP API does."""
    with at_work(topology, bench.url, management_url=broker.management_url) as patient:
        with patient.seeing("topology", f"binding 'work -> {QUEUE} [requested]': not there"):
            bench.channel.queue_unbind(QUEUE, "work", "requested")
        with patient.healing():
            bench.set_up(topology)


def test_a_binding_that_a_migration_has_diverted_is_there(
    bench: Bench, topology: Topology, broker: EmbeddedBroker
) -> None:
    """What is published goes on to the queue by way of the ingress."""
    ingress, other = ingress_name(QUEUE), "another"
    bench.channel.exchange_declare(ingress, "fanout")
    bench.channel.exchange_bind(ingress, "work", "requested")
    bench.channel.queue_unbind(QUEUE, "work", "requested")
    watch = TopologyWatch(
        topology, BrokerSettings.of(bench.url), "tests", str(broker.management_url)
    )

    assert watch.missing_bindings() == []

    bench.channel.exchange_unbind(ingress, "work", "requested")
    bench.channel.exchange_bind(ingress, "work", other)
    assert [one.name for one in watch.missing_bindings()] == [f"work -> {QUEUE} [requested]"]


def test_an_http_api_that_does_not_answer_is_said_once_and_makes_nothing_red(
    bench: Bench, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = "http://127.0.0.1:1"
    watch = TopologyWatch(topology, BrokerSettings.of(bench.url), "tests", nobody)

    assert watch.missing_bindings() == watch.missing_bindings() == []

    said = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert ["bindings are not checked" in one.getMessage() for one in said] == [True]


def test_an_exchange_that_is_deleted(patient: Patient, bench: Bench, topology: Topology) -> None:
    with patient.seeing("topology", "exchange 'work'"):
        bench.channel.exchange_delete("work")

    with patient.healing():
        bench.set_up(topology)


def test_a_consumer_that_is_cancelled_behind_our_back(patient: Patient) -> None:
    """By the broker's word alone: what is known here says that all is well."""
    channel = channel_of(patient.consumer)
    cancel = pika.spec.Basic.Cancel(patient.consumer.tag, nowait=True)

    with patient.seeing("consumer worker", "the broker counts no consumer on its queue"):
        channel.send(method_frame(channel.state.number, cancel))
    with patient.healing():
        pass


def test_a_channel_that_is_closed(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    """It is replaced so fast that one has to look while that is not allowed."""
    away = threading.Event()
    serve = patient.consumer.serve

    def serve_later(connection: Connection) -> AttuneError:
        wait_for(away, "to be allowed to consume again")
        return serve(connection)

    monkeypatch.setattr(patient.consumer, "serve", serve_later)
    with patient.seeing("consumer worker", "connecting"):
        channel_of(patient.consumer).basic_ack(4_711)

    with patient.healing():
        away.set()


def test_a_loop_that_is_stuck(
    patient: Patient, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readiness at once; liveness when waiting cannot be the cause any more."""
    lock = channel_of(patient.consumer).connection.loop.lock

    def hold() -> None:
        with lock:
            gate(None)  # type: ignore[arg-type]

    with patient.seeing("consumer worker", "the I/O loop is not running"):
        threading.Thread(target=hold).start()
    assert patient.health.monitor.live().is_good
    monkeypatch.setattr(checks, "STUCK_AFTER_S", 2.0)
    wait_until(lambda: not patient.health.monitor.live().is_good, "liveness is red")
    with patient.healing():
        gate.let_through.set()
    assert patient.health.monitor.live().is_good


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_dead(patient: Patient) -> None:
    """Nothing in the library ends it so; a new process mends it, says liveness."""
    thread = patient.consumer._thread
    assert thread is not None
    assert thread.ident is not None
    with patient.seeing("consumer worker", "stopped"):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )

    [trouble] = patient.health.monitor.live().troubles
    assert trouble.why == "its thread has ended"


def hang(patient: Patient, gate: Gate, messages: int = 1) -> None:
    """All of its handlers, which are at the first of these messages."""
    for number in range(messages):
        patient.service.publisher.publish(request(number), message_id=f"message-{number}")
    wait_for(gate.entered, "a handler hangs")


def test_handlers_that_hang_are_red_without_a_deadline_in_the_file_too(
    bench: Bench, topology: Topology, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert consumer_status.DEFAULT_DEADLINE_MS < consumers.DEFAULT_CONSUMER_TIMEOUT_MS
    monkeypatch.setattr(consumer_status, "DEFAULT_DEADLINE_MS", 100)
    with at_work(topology, bench.url, gate) as patient:
        with patient.seeing("consumer worker", "over their deadline (100ms, the default)"):
            hang(patient, gate)

        assert patient.is_red("consumer worker", "ExecutionRequested message-0 since 20")
        assert secret_canaries.PAYLOAD not in str(patient.ready())
        [status] = patient.health.monitor.status()["consumers"]
        [running] = status["running"]
        assert (running["message_id"], running["message_type"]) == (
            "message-0",
            "ExecutionRequested",
        )
        assert secret_canaries.PAYLOAD not in json.dumps(status)
        with patient.healing():
            gate.let_through.set()


def test_handlers_that_hang_are_red_also_on_a_new_connection(
    topology: Topology, proxy: Proxy, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when RabbitMQ has waited too long and closed the channel: the threads are as stuck."""
    monkeypatch.setattr(consumer_status, "DEFAULT_DEADLINE_MS", 100)
    with at_work(topology, proxy.url, gate) as patient:
        with patient.seeing("consumer worker", "over their deadline"):
            hang(patient, gate)
        connections = patient.consumer.status.connections
        proxy.cut()
        wait_until(lambda: patient.consumer.status.connections > connections, "it consumes again")

        assert patient.is_red("consumer worker", "over their deadline")
        gate.let_through.set()


def test_handlers_that_take_long_while_messages_wait_are_a_warning_and_no_trouble(
    bench: Bench, topology: Topology, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "BUSY_AFTER_S", 0.1)
    with at_work(topology, bench.url, gate) as patient:
        hang(patient, gate)
        in_order = patient.consumer.status.running
        wait_until(lambda: patient.consumer.status.running[0].for_s > 0.2, "it has taken long")
        assert patient.ready().warnings == ()  # nothing waits for it

        patient.service.publisher.publish(request(1))
        wait_until(lambda: bool(patient.ready().warnings), "a message waits")

        [warned] = patient.ready().warnings
        assert warned.check == "consumer worker"
        assert f"{in_order[0].message_type} message-0 since" in warned.why
        assert "1 messages wait" in warned.why
        assert patient.ready().is_good
        gate.let_through.set()
        wait_until(lambda: not patient.ready().warnings, "nothing takes long")


def test_what_the_file_allows_to_take_long_is_no_warning(
    bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "BUSY_AFTER_S", 0.0)
    topology = topology_of(WORK.replace("prefetch: 10}", "prefetch: 10, deadline: 10m}"))
    with at_work(topology, bench.url, gate) as patient:
        hang(patient, gate, messages=3)
        wait_until(lambda: patient.consumer.status.in_flight == 3, "the others wait")

        assert patient.ready().is_good
        assert patient.ready().warnings == ()
        gate.let_through.set()


def test_some_handlers_that_hang_are_a_warning(bench: Bench, gate: Gate) -> None:
    """The others go on."""
    limits = "prefetch: 10, concurrency: 2, deadline: 100ms}"
    topology = topology_of(WORK.replace("prefetch: 10}", limits))
    with at_work(topology, bench.url, gate) as patient:
        hang(patient, gate)
        wait_until(lambda: bool(patient.ready().warnings), "it is over its deadline")

        [warned] = patient.ready().warnings
        assert warned.why.startswith("1 of its 2 handlers are over their deadline (100ms): ")
        assert patient.ready().is_good
        gate.let_through.set()


def test_handlers_that_hang_all_of_them(bench: Bench, gate: Gate) -> None:
    topology = topology_of(WORK.replace("prefetch: 10}", "prefetch: 10, deadline: 100ms}"))
    with at_work(topology, bench.url, gate) as patient:
        with patient.seeing("consumer worker", "over their deadline"):
            patient.service.publisher.publish(request(1))
        with patient.healing():
            gate.let_through.set()


def in_background(publisher: Publisher, number: int) -> threading.Thread:
    """Whatever comes of it."""
    message = publisher.outgoing(Envelope.of(request(number)))
    thread = threading.Thread(target=publisher.send, args=([message],), daemon=True)
    thread.start()
    return thread


def test_a_broker_that_blocks_publishers(topology: Topology, fault_broker: EmbeddedBroker) -> None:
    with fault_broker.fresh_vhost() as url, at_work(topology, url) as patient:
        patient.service.publisher.publish(request(1))
        fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0")
        try:
            with patient.seeing("publisher", "blocks publishers"):
                sending = in_background(patient.service.publisher, 2)
        finally:
            fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
        with patient.healing():
            sending.join(30)


def refuse(_: Message[Any]) -> None:
    raise Reject("never")


@pytest.mark.parametrize("first", ["a message", "a dead letter"])
def test_a_publisher_that_is_opened_for_what_it_publishes_first_is_no_trouble(
    bench: Bench, topology: Topology, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Until that takes longer than an answer may."""
    monkeypatch.setattr(confirm_connection, "WATCHDOG_S", 60.0)
    with at_work(topology, proxy.url, refuse) as patient:
        accepted = proxy.accepted
        proxy.stall_next("to client")
        if first == "a message":
            in_background(patient.service.publisher, 1)
        else:
            bench.put(QUEUE, encode(Envelope.of(request(1))))
        wait_until(lambda: proxy.accepted > accepted, "it is being opened")

        assert not patient.is_red("publisher", "")
        monkeypatch.setattr(confirm_connection, "WATCHDOG_S", 0.5)
        with patient.seeing("publisher", "not open yet"):
            pass
        with patient.healing():
            proxy.cut()


def test_a_publisher_that_is_closed_is_no_trouble(patient: Patient) -> None:
    """Whoever publishes by it is told."""
    patient.service.publisher.publish(request(1))
    patient.service.publisher.close()

    assert patient.service.publisher.trouble is None


def test_a_publisher_to_which_no_confirm_comes(patient: Patient, proxy: Proxy) -> None:
    patient.service.publisher.publish(request(1))
    with patient.seeing("publisher", "wait for a confirm"):
        proxy.stall("to client")
        sending = in_background(patient.service.publisher, 2)
    with patient.healing():
        proxy.cut()
        sending.join(30)


def test_a_service_that_starts_and_one_that_stops(topology: Topology, bench: Bench) -> None:
    service = Service("tests", topology, bench.url)
    service.on(ExecutionRequested)(lambda _: None)
    with HealthServer(service, port=0) as health:
        patient = Patient(service, health)
        assert patient.ready().troubles[0].why == "it is starting"
        service.start()
        patient.wait_until_green()
        service.stop(2)
        assert patient.ready().troubles[0].why == "it is stopped"
        assert health.monitor.live().is_good

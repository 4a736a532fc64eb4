"""Services, consumers, publishers and health servers live once, and say so when asked for more."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attune_mq.errors import BrokerUnavailable, DuplicateConsumerTag, LifecycleError, NotConfirmed
from attune_mq.health.server import HealthServer
from attune_mq.message.envelope import Envelope
from attune_mq.payloads import ExecutionRequested
from attune_mq.publishing.publisher import Publisher
from attune_mq.service import Service
from attune_mq.testing import RecordingPublisher
from attune_mq.topology.model import Topology, UnknownName
from tests.messaging.bench import (
    CLOSED_URL,
    QUEUE,
    Bench,
    Calls,
    Gate,
    consumer_of,
    request,
    running,
    topology_of,
    wait_for,
    wait_for_state,
)
from tests.waiting import wait_until


def service_of(topology: Topology, url: str, calls: Calls | None = None, **options: Any) -> Service:
    service = Service("tests", topology, url, **options)
    service.on(ExecutionRequested)(calls or Calls())
    return service


@pytest.fixture
def service(broker_url: str, topology: Topology) -> Iterator[Service]:
    service = service_of(topology, broker_url)
    yield service
    service.stop(5)


def in_a_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


# A service.


def test_a_service_that_was_stopped_cannot_be_started_again(service: Service) -> None:
    service.start()
    service.stop(5)

    for begin in (service.start, service.run):
        with pytest.raises(LifecycleError, match="that is stopped; make a new Service"):
            begin()

    assert service.phase == "stopped"


def test_a_service_that_was_stopped_before_it_started_cannot_be_started(service: Service) -> None:
    service.stop()

    with pytest.raises(LifecycleError, match="make a new Service"):
        service.start()
    with pytest.raises(NotConfirmed, match="closed"):
        service.publisher.publish(request(1))

    assert (service.phase, service.consumers) == ("stopped", ())


def test_a_service_that_runs_is_not_started_twice_and_runs_on(bench: Bench) -> None:
    calls = Calls()
    service = service_of(topology_of(), bench.url, calls)
    service.start()
    try:
        for begin in (service.start, service.run):
            with pytest.raises(LifecycleError, match="that is running"):
                begin()

        service.publisher.publish(request(1))
        calls.wait_for(1)
        assert (service.phase, len(service.consumers)) == ("running", 1)
    finally:
        service.stop(5)


def test_of_two_threads_that_start_a_service_one_does(service: Service) -> None:
    threads = [in_a_thread(service.start) for _ in range(2)]
    for thread, _ in threads:
        thread.join()

    (error,) = [error for _, raised in threads for error in raised]
    assert isinstance(error, LifecycleError)
    assert len(service.consumers) == 1


def test_a_service_that_is_stopped_stays_so(service: Service) -> None:
    service.start()

    for _ in range(2):
        service.stop(5)

    assert service.phase == "stopped"
    assert [one.state for one in service.consumers] == ["stopped"]


def test_a_service_whose_broker_was_away_can_be_started_later(
    broker_url: str, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(topology, CLOSED_URL)
    with pytest.raises(BrokerUnavailable):
        service.start()

    monkeypatch.setattr(service, "settings", service.settings.of(broker_url))
    service.start()
    try:
        assert service.phase == "running"
    finally:
        service.stop(5)


def test_a_service_without_its_consumer_in_the_file_says_so_each_time(topology: Topology) -> None:
    service = Service("stranger", topology, CLOSED_URL)
    service.on(ExecutionRequested)(Calls())

    for _ in range(2):
        with pytest.raises(UnknownName):
            service.start()


class FailsToStart:
    def start(self) -> None:
        raise RuntimeError("cannot start")

    def stop(self, deadline_s: float) -> None: ...


def test_a_service_that_failed_after_something_had_started_cannot_be_started_again(
    service: Service,
) -> None:
    service.add_background_task(FailsToStart())
    with pytest.raises(RuntimeError):
        service.start()

    with pytest.raises(LifecycleError, match="make a new Service"):
        service.start()


def test_a_service_that_is_stopped_while_it_waits_for_its_broker_does_not_start(
    topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of(topology, CLOSED_URL, wait_s=600)
    starting, raised = in_a_thread(service.start)
    wait_until(lambda: "Waiting for the broker" in caplog.text, "it waits")

    service.stop(5)
    starting.join()

    assert isinstance(raised[0], LifecycleError)
    assert service.phase == "stopped"


class StopsItsService:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.stopped = False

    def start(self) -> None:
        self.service.stop(0)

    def stop(self, deadline_s: float) -> None:
        self.stopped = True


def test_a_service_that_is_stopped_while_it_starts_leaves_nothing_running(service: Service) -> None:
    """As by a signal that comes between two steps."""
    beside = StopsItsService(service)
    service.add_background_task(beside)

    with pytest.raises(LifecycleError, match="stopped during start-up"):
        service.start()

    assert beside.stopped
    assert (service.phase, service.consumers) == ("stopped", ())


def test_a_service_that_another_thread_stops_does_not_run_on(service: Service) -> None:
    def stop_it() -> None:
        wait_until(lambda: service.phase == "running", "it runs")
        service.stop(5)

    before = signal.getsignal(signal.SIGTERM)
    stopping, _ = in_a_thread(stop_it)
    service.run()
    stopping.join()

    assert service.phase == "stopped"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_service_does_not_run_outside_of_the_main_thread(service: Service) -> None:
    thread, raised = in_a_thread(service.run)
    thread.join()

    assert isinstance(raised[0], LifecycleError)
    assert service.phase == "starting"


def test_what_would_never_be_started_beside_a_service_is_refused(service: Service) -> None:
    service.start()

    with pytest.raises(LifecycleError, match="add_background_task before start"):
        service.add_background_task(FailsToStart())


def test_a_second_stop_hurries_the_first(bench: Bench, topology: Topology, gate: Gate) -> None:
    service = service_of(topology, bench.url, Calls(gate))
    service.start()
    service.publisher.publish(request(1))
    wait_for(gate.entered, "the handler runs")
    stopping, raised = in_a_thread(lambda: service.stop(600))
    wait_until(lambda: service.phase == "stopping", "it stops")

    service.stop(0)
    stopping.join()

    assert not raised
    assert bench.take_when_there(QUEUE).redelivered


# A consumer.


def test_a_consumer_that_was_stopped_cannot_be_started_again(
    bench: Bench, topology: Topology
) -> None:
    consumer = consumer_of(bench, topology, Calls())
    with running(consumer):
        wait_for_state(consumer, "consuming")

    for begin in (consumer.start, consumer.run):
        with pytest.raises(LifecycleError, match="before; make a new Consumer"):
            begin()


def test_a_consumer_that_was_stopped_before_it_started_cannot_be_started(
    bench: Bench, topology: Topology
) -> None:
    consumer = consumer_of(bench, topology, Calls())
    consumer.stop()

    with pytest.raises(LifecycleError, match="stopped before; make a new Consumer"):
        consumer.start()


def test_a_consumer_that_consumes_is_not_started_twice_and_consumes_on(
    bench: Bench, topology: Topology
) -> None:
    calls = Calls()
    consumer = consumer_of(bench, topology, calls)
    with running(consumer):
        for begin in (consumer.start, consumer.run):
            with pytest.raises(LifecycleError):
                begin()
        with Publisher(topology, bench.url) as publisher:
            publisher.publish(request(1))
        calls.wait_for(1)


def test_a_consumer_whose_tag_was_in_use_can_be_started_once_it_is_free(
    bench: Bench, topology: Topology
) -> None:
    first, second = (consumer_of(bench, topology, Calls()) for _ in range(2))
    with running(first), pytest.raises(DuplicateConsumerTag):
        second.start()

    with running(second):
        wait_for_state(second, "consuming")


# Others.


def test_a_publisher_that_was_closed_says_so_of_each_message(
    broker_url: str, topology: Topology, bench: Bench
) -> None:
    publisher = Publisher(topology, broker_url)
    publisher.publish(request(1))
    for _ in range(2):
        publisher.close()

    with pytest.raises(NotConfirmed, match="the publisher is closed") as caught:
        publisher.publish(request(2))

    assert not caught.value.sent
    assert bench.depth(QUEUE) == 1


def test_a_health_server_lives_once(topology: Topology) -> None:
    service = service_of(topology, CLOSED_URL)
    health = HealthServer(service, port=0)
    with health, pytest.raises(LifecycleError, match="make a new one"):
        health.start()
    with pytest.raises(LifecycleError, match="make a new one"):
        health.start()

    unused = HealthServer(service, port=0)
    unused.stop()
    with pytest.raises(LifecycleError, match="make a new one"):
        unused.start()


# The same message again.


def test_a_message_that_is_published_again_keeps_its_id(topology: Topology) -> None:
    publisher = RecordingPublisher(topology)
    publisher.failure = NotConfirmed("the broker is away", sent=False)
    with pytest.raises(NotConfirmed) as caught:
        publisher.publish(request(1))
    publisher.failure = None

    receipt = publisher.publish(request(1), message_id=caught.value.message_id)

    assert receipt.message_id == caught.value.message_id


def test_an_envelope_that_is_published_again_is_the_same_message(
    broker_url: str, topology: Topology, bench: Bench
) -> None:
    message = Envelope.of(request(1))
    away = Publisher(topology, CLOSED_URL)
    with pytest.raises(NotConfirmed):
        away.publish(message, timeout_s=0.5)
    away.close()

    with Publisher(topology, broker_url) as publisher:
        bench.set_up(topology)
        first, second = publisher.publish(message), publisher.publish(message)

    assert first.message_id == second.message_id == message.message_id
    one, other = bench.take_all(QUEUE)
    assert one.body == other.body
    assert one.properties.message_id == other.properties.message_id == message.message_id

"""A service as a whole: set up, consume, publish, drain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attune_mq.errors import BrokerUnavailable, NotConfirmed
from attune_mq.message.delivery import Message
from attune_mq.payloads import EnforcementCreated, ExecutionDispatch, ExecutionRequested
from attune_mq.service import Service
from attune_mq.topology.families import instantiate
from attune_mq.topology.model import Topology, UnknownName
from attune_mq.topology_file import load_topology
from tests.messaging.bench import (
    CLOSED_URL,
    QUEUE,
    WAIT_S,
    WORK,
    Bench,
    Calls,
    Gate,
    request,
    topology_of,
    wait_for,
)
from tests.waiting import wait_until

ENFORCEMENT = EnforcementCreated(enforcement_id=1, rule_ref="r", trigger_ref="t", payload={})


BOTH_TYPES = WORK.replace(
    "messages:\n",
    "messages:\n  EnforcementCreated: {exchange: work, routing_key: asked, publishers: [api]}\n",
)


class Beside:
    """Something that runs beside the consumers, and can be told to fail."""

    def __init__(self, *, fails_to_start: bool = False, fails_to_stop: bool = False) -> None:
        self.log: list[str] = []
        self._fails_to_start = fails_to_start
        self._fails_to_stop = fails_to_stop

    def start(self) -> None:
        self.log.append("start")
        if self._fails_to_start:
            raise RuntimeError("cannot start")

    def stop(self, deadline_s: float) -> None:
        self.log.append("stop")
        assert deadline_s > 0
        if self._fails_to_stop:
            raise RuntimeError("cannot stop")


@contextmanager
def started(service: Service) -> Iterator[None]:
    service.start()
    try:
        yield
    finally:
        service.stop(5)
    wait_until(lambda: all(one.state == "stopped" for one in service.consumers), "it has stopped")


def service_of(topology: Topology | None, url: str, calls: Calls, **options: Any) -> Service:
    service = Service("tests", topology, url, **options)
    service.on(ExecutionRequested)(calls)
    return service


# What it starts.


def test_a_service_sets_up_consumes_and_publishes(broker_url: str, topology: Topology) -> None:
    calls = Calls()
    service = service_of(topology, broker_url, calls)
    with started(service):
        service.publisher.publish(request(1))

        (message,) = calls.wait_for(1)
        assert message.envelope.headers.source_service == "tests"
        assert [status.tag for status in service.consumers] == ["worker"]


def test_the_queue_is_the_files_to_name_and_no_code_changes(broker_url: str) -> None:
    renamed = topology_of(WORK.replace("work.queue", "renamed"))
    calls = Calls()
    service = service_of(renamed, broker_url, calls)
    with started(service):
        service.publisher.publish(request(1))
        calls.wait_for(1)

        assert calls.messages[0].delivery.queue == "renamed"


def test_three_consumers_compete_on_the_queue_of_the_original_topology(broker_url: str) -> None:
    file = Path(__file__).parents[2] / "topology.yaml"
    calls = Calls()
    executor = Service("executor", load_topology(file), broker_url, instance="a")
    executor.on(EnforcementCreated)(calls)
    with started(executor):
        wait_until(
            lambda: [one.state for one in executor.consumers] == ["consuming"] * 3, "all consume"
        )
        executor.publisher.publish_many([ENFORCEMENT] * 30)
        calls.wait_for(30)

    tags = {message.consumer_tag for message in calls.messages}
    assert tags == {"executor.enforcement@a", "executor.scheduler@a", "executor.manager@a"}


def test_consumers_whose_types_nothing_here_handles_are_not_started(
    broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    two = topology_of(
        BOTH_TYPES.replace("  worker: {service: tests, queue: work, prefetch: 10}",
                     "  worker: {service: tests, queue: work, handles: [ExecutionRequested]}\n"
                     "  other: {service: tests, queue: work, handles: [EnforcementCreated]}\n"
                     "  foreign: {service: elsewhere, queue: work}")
    )  # fmt: skip
    service = service_of(two, broker_url, Calls())
    with caplog.at_level("INFO"), started(service):
        assert [status.tag for status in service.consumers] == ["worker"]

    assert "Consumer 'other' is not started" in caplog.text


def test_a_type_that_the_file_gives_a_consumer_and_no_handler_takes_is_warned_of(
    broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    both = topology_of(
        BOTH_TYPES.replace("queue: work, prefetch: 10",
                     "queue: work, handles: [ExecutionRequested, EnforcementCreated]")
    )  # fmt: skip
    with started(service_of(both, broker_url, Calls())):
        pass

    assert "Consumer 'worker' has no handler for EnforcementCreated" in caplog.text


def test_handlers_for_which_the_file_has_no_consumer_are_an_error(topology: Topology) -> None:
    service = Service("stranger", topology, CLOSED_URL)
    service.on(ExecutionRequested)(Calls())

    with pytest.raises(UnknownName, match="service: stranger"):
        service.start()


def test_a_service_that_only_publishes_has_no_consumer(broker_url: str, topology: Topology) -> None:
    service = Service("api", topology, broker_url)
    with started(service):
        service.publisher.publish(request(1))

        assert service.consumers == ()


def test_a_service_of_a_family_consumes_the_queues_of_its_instance(broker_url: str) -> None:
    whole = load_topology(Path(__file__).parents[2] / "topology.yaml")
    calls = Calls()
    worker = Service("worker", whole, broker_url, family="worker", worker_id=7)
    worker.on(ExecutionDispatch)(calls)
    dispatch = ExecutionDispatch(
        execution_id=1,
        worker_id=7,
        action_ref="core.echo",
        scheduled_attempt_updated_at="2026-09-03T12:34:56Z",
    )
    with started(worker):
        route = instantiate(whole, "worker", worker_id=7).route("ExecutionRequested")
        worker.publisher.publish(dispatch, route=route)
        (message,) = calls.wait_for(1)

    assert message.delivery.queue == "worker.7.executions"
    assert message.consumer_tag == "worker-7"


# When something is missing.


def test_a_broker_that_is_away_is_an_error_when_the_time_to_wait_is_over(
    topology: Topology,
) -> None:
    service = service_of(topology, CLOSED_URL, Calls(), wait_s=0.5)

    with pytest.raises(BrokerUnavailable, match="connection refused"):
        service.start()


def test_what_was_started_is_stopped_when_something_else_does_not_start(
    broker_url: str, topology: Topology
) -> None:
    good, bad = Beside(), Beside(fails_to_start=True)
    service = service_of(topology, broker_url, Calls())
    service.add_background_task(good)
    service.add_background_task(bad)

    with pytest.raises(RuntimeError, match="cannot start"):
        service.start()

    assert good.log == ["start", "stop"]
    assert service.consumers == ()
    with pytest.raises(NotConfirmed, match="closed"):
        service.publisher.publish(request(1))


def test_what_runs_beside_is_stopped_though_another_cannot_be(
    broker_url: str, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = Beside(), Beside(fails_to_stop=True)
    service = service_of(topology, broker_url, Calls())
    for beside in (good, bad):
        service.add_background_task(beside)

    with started(service):
        pass

    assert good.log == bad.log == ["start", "stop"]
    assert "Beside failed to stop cleanly" in caplog.text


# Running until told to stop.


@pytest.fixture
def signals() -> Iterator[None]:
    """Whatever a test does to them, they are afterwards as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def once(calls: Calls, *then: Any) -> threading.Thread:
    """A thread that does ``then``, one after the other, once the handler has been called."""

    def wait() -> None:
        calls.wait_for(1)
        for one in then:
            one()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.usefixtures("signals")
def test_a_signal_lets_handlers_finish_and_gives_the_rest_back(
    bench: Bench, topology: Topology, gate: Gate
) -> None:
    calls = Calls(gate)
    service = service_of(topology, bench.url, calls)
    beside = Beside()
    service.add_background_task(beside)
    for number in range(5):
        service.publisher.publish(request(number))

    def rest_is_back() -> None:
        looking = Bench(bench.url)
        looking.wait_for_depth(QUEUE, 4)
        looking.close()
        gate.let_through.set()

    thread = once(calls, lambda: os.kill(os.getpid(), signal.SIGTERM), rest_is_back)
    service.run(deadline_s=60)
    thread.join()

    assert [status.handled for status in service.consumers] == [1]
    assert bench.depth(QUEUE) == 4
    assert beside.log == ["start", "stop"]


@pytest.mark.usefixtures("signals")
def test_a_second_signal_stops_at_once(bench: Bench, topology: Topology, gate: Gate) -> None:
    calls = Calls(gate)
    service = service_of(topology, bench.url, calls)
    service.publisher.publish(request(1))

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def wait_until_it_stops() -> None:
        wait_until(lambda: service.consumers[0].state == "stopping", "it stops")

    thread = once(calls, interrupt, wait_until_it_stops, interrupt)
    service.run(deadline_s=600)
    thread.join()

    assert not gate.let_through.is_set()
    given_back = bench.take_when_there(QUEUE)
    assert given_back.redelivered
    assert given_back.headers == {}


@pytest.mark.usefixtures("signals")
def test_a_signal_ends_the_wait_for_a_broker(topology: Topology) -> None:
    service = service_of(topology, CLOSED_URL, Calls(), wait_s=600)
    threading.Timer(0.1, service.request_stop).start()

    service.run()

    assert service.consumers == ()


@pytest.mark.usefixtures("signals")
def test_a_service_can_be_asked_to_stop_from_a_handler(bench: Bench, topology: Topology) -> None:
    def work(_message: Message[Any]) -> None:
        service.request_stop()

    service = service_of(topology, bench.url, Calls(work))
    service.publisher.publish(request(1))

    service.run()

    assert [status.handled for status in service.consumers] == [1]


SCRIPT = """
import sys, threading
from attune_mq import Message, Service, payloads

service = Service("notifier", broker=sys.argv[1])

@service.on(payloads.NotificationCreated)
def tell(message: Message[payloads.NotificationCreated]) -> None:
    print(message.payload.activity, flush=True)

service.run()
"""


def test_ten_lines_are_a_service(broker_url: str, bench: Bench) -> None:
    whole = Path(__file__).parents[2] / "topology.yaml"
    bench.set_up(load_topology(whole))
    bench.channel.basic_publish("attune.notifications", "", NOTIFICATION)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, broker_url],
        cwd=whole.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "execution 1 completed\n"
        process.terminate()
        assert process.wait(WAIT_S) == 0


NOTIFICATION = b"""{
 "message_type": "NotificationCreated", "timestamp": "2026-09-03T12:34:56Z",
 "payload": {"notification_id": 1, "channel": "c", "entity_type": "execution", "entity": "1",
             "activity": "execution 1 completed"}}"""


def test_what_a_handler_waits_for_is_not_held_up_by_the_end_of_the_service(
    bench: Bench, topology: Topology, gate: Gate
) -> None:
    """Its publisher is closed after its handlers have finished."""
    calls = Calls()

    def work(message: Message[Any]) -> None:
        gate(message)
        if message.payload.execution_id == 1:
            service.publisher.publish(request(2))
        calls(message)

    service = service_of(topology, bench.url, Calls(work))
    service.publisher.publish(request(1))
    service.start()
    wait_for(gate.entered, "the handler runs")
    stopping = threading.Thread(target=service.stop, args=(60,))
    stopping.start()
    bench.wait_for_consumers(QUEUE, 0)
    gate.let_through.set()
    stopping.join()

    assert calls.ids == [1]
    assert bench.depth(QUEUE) == 1

"""The tools for the tests of a service, used as another team would use them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from attune_mq import (
    DependencyUnavailable,
    Envelope,
    Handlers,
    Message,
    NotConfirmed,
    Publisher,
    PublishManyFailed,
    PublishRefused,
    Reject,
    RetryLater,
    Route,
    Service,
    Topology,
    Unroutable,
    instantiate,
    parse_topology,
    payloads,
)
from attune_mq.broker import EmbeddedBroker
from attune_mq.message import StreamDelivery
from attune_mq.testing import Acknowledge, DeadLetter, Hold, RecordingPublisher, TryAgain, deliver
from attune_mq.topology import UnknownName

ENFORCEMENT = payloads.EnforcementCreated(
    enforcement_id=12, rule_ref="core.rule", trigger_ref="core.trigger", payload={"n": 1}
)
RETRYING = """
version: 1
queues:
  work: {name: work.queue, retry: {attempts: 5, backoff: [10s]}}
consumers:
  worker: {service: tests, queue: work}
"""


@pytest.fixture(scope="session")
def attune_broker(broker: EmbeddedBroker) -> EmbeddedBroker:
    """The node that these tests have already: overriding the fixture saves starting another."""
    return broker


class EnforcementProcessor:
    """What another team would test: a handler that publishes."""

    def __init__(self, publisher: Publisher) -> None:
        self.handlers = Handlers()
        self._publisher = publisher
        self.handlers.on(payloads.EnforcementCreated)(self.process)

    def process(self, message: Message[payloads.EnforcementCreated]) -> None:
        if message.payload.rule_ref == "unknown":
            raise Reject("no such rule")
        if message.payload.rule_ref == "later":
            raise RetryLater("not yet", delay_s=2)
        self._publisher.publish(
            payloads.ExecutionRequested(
                execution_id=1,
                action_ref="core.echo",
                enforcement_id=message.payload.enforcement_id,
            ),
            correlation_id=message.envelope.correlation_id,
        )


@pytest.fixture
def recording(attune_topology: Topology) -> RecordingPublisher:
    return RecordingPublisher(attune_topology, source_service="executor")


@pytest.fixture
def processor(recording: RecordingPublisher) -> EnforcementProcessor:
    return EnforcementProcessor(recording)


# Handlers without a broker.


STREAMING = """
version: 1
queues:
  log: {name: shop.log, type: stream}
consumers:
  reader: {service: tests, queue: log, offset: stored}
"""


@pytest.mark.parametrize("headers", [None, {"x-stream-offset": 7}])
def test_a_message_of_a_stream_comes_with_its_offset(headers: dict[str, Any] | None) -> None:
    handlers, came = Handlers(), list[Message[Any]]()
    handlers.on(payloads.EnforcementCreated)(came.append)
    topology = parse_topology(STREAMING)

    told = deliver(
        handlers, ENFORCEMENT, topology=topology, consumer="reader", headers=headers, attempt=2
    )

    assert told == Acknowledge()
    [message] = came
    assert isinstance(message.delivery, StreamDelivery)
    assert message.delivery.position.offset == (7 if headers else 0)
    assert message.attempt == 2


def test_a_handled_message_would_be_acknowledged_and_what_it_led_to_is_known(
    processor: EnforcementProcessor, recording: RecordingPublisher
) -> None:
    incoming = Envelope.of(ENFORCEMENT, correlation_id="story")

    assert deliver(processor.handlers, incoming) == Acknowledge()

    (published,) = recording.published
    assert published.payload_as(payloads.ExecutionRequested).enforcement_id == 12
    assert published.envelope.correlation_id == "story"
    assert published.envelope.headers.source_service == "executor"
    assert published.exchange == "attune.executions"
    assert published.queues == ("attune.executions.queue",)


def test_what_a_consumer_would_pause_for_is_told(attune_topology: Topology) -> None:
    handlers = Handlers()

    @handlers.on(payloads.EnforcementCreated)
    def call_api(_message: Message[payloads.EnforcementCreated]) -> None:
        raise DependencyUnavailable("billing API", "it does not answer")

    outcome = deliver(handlers, ENFORCEMENT, attempt=3)

    assert isinstance(outcome, Hold)
    assert outcome.cause.dependency == "billing API"
    assert outcome.cause.error.text == "it does not answer"


def test_a_failure_would_be_tried_again_and_at_last_dead_lettered(
    processor: EnforcementProcessor, recording: RecordingPublisher
) -> None:
    recording.failure = NotConfirmed("the broker is away", sent=False)

    first = deliver(processor.handlers, ENFORCEMENT)
    last = deliver(processor.handlers, ENFORCEMENT, attempt=3)

    assert isinstance(first, TryAgain)
    assert (first.failures, first.hold_ms) == (1, 1_000)
    assert first.error.text == "the broker is away"
    assert isinstance(last, DeadLetter)
    assert (last.reason, last.attempts) == ("attempts exhausted", 3)
    assert last.error.trace.startswith("Traceback")


def test_each_message_that_fails_has_an_error_with_its_own_id(
    recording: RecordingPublisher,
) -> None:
    recording.failure = Unroutable("no queue")
    messages = [Envelope.of(ENFORCEMENT) for _ in range(2)]

    with pytest.raises(PublishManyFailed) as caught:
        recording.publish_many(messages)

    failures = caught.value.failures
    assert [failures[n].message_id for n in range(2)] == [one.message_id for one in messages]
    assert {type(one) for one in failures.values()} == {Unroutable}


def test_a_recording_publisher_that_was_closed_takes_no_more(
    recording: RecordingPublisher,
) -> None:
    recording.publish(ENFORCEMENT)
    recording.close()

    with pytest.raises(NotConfirmed, match="the publisher is closed"):
        recording.publish(ENFORCEMENT)

    assert len(recording.published) == 1


def test_a_rejected_message_would_be_dead_lettered_at_once(
    processor: EnforcementProcessor,
) -> None:
    settlement = deliver(processor.handlers, ENFORCEMENT.model_copy(update={"rule_ref": "unknown"}))

    assert isinstance(settlement, DeadLetter)
    assert (settlement.reason, settlement.error.text) == ("rejected", "no such rule")


@pytest.mark.parametrize("body", [b"no JSON", b"", b"\xff"])
def test_a_body_that_cannot_be_read_would_be_dead_lettered(
    processor: EnforcementProcessor, body: bytes
) -> None:
    settlement = deliver(processor.handlers, body)

    assert isinstance(settlement, DeadLetter)
    assert settlement.reason == "unreadable"


def test_a_type_without_a_handler_would_be_dead_lettered(processor: EnforcementProcessor) -> None:
    settlement = deliver(processor.handlers, payloads.PackDeleted(pack_id=1, pack_ref="core"))

    assert isinstance(settlement, DeadLetter)
    assert settlement.reason == "unhandled"


def test_the_attempts_and_delays_are_those_of_the_consumers_queue(
    processor: EnforcementProcessor,
) -> None:
    retrying = parse_topology(RETRYING)
    later = ENFORCEMENT.model_copy(update={"rule_ref": "later"})

    fourth = deliver(processor.handlers, later, attempt=4, topology=retrying, consumer="worker")
    fifth = deliver(processor.handlers, later, attempt=5, topology=retrying, consumer="worker")

    assert isinstance(fourth, TryAgain)
    assert (fourth.failures, fourth.queue_delay_ms) == (4, 10_000)
    assert isinstance(fifth, DeadLetter)


def test_a_handler_sees_how_its_message_came(attune_topology: Topology) -> None:
    handlers, seen = Handlers(), []

    @handlers.on(payloads.EnforcementCreated)
    def look(message: Message[payloads.EnforcementCreated]) -> None:
        delivery = message.delivery
        seen.append((message.attempt, delivery.exchange, delivery.queue, message.consumer_tag))
        seen.append(delivery.headers["x-shard"])

    deliver(
        handlers,
        ENFORCEMENT,
        attempt=2,
        headers={"x-shard": 7},
        topology=attune_topology,
        consumer="executor.enforcement",
    )

    assert seen == [
        (2, "attune.executions", "attune.executions.queue", "executor.enforcement"),
        7,
    ]


def test_a_consumer_that_the_file_does_not_have_is_an_error(
    processor: EnforcementProcessor, attune_topology: Topology
) -> None:
    with pytest.raises(UnknownName, match=r"executor\.enforcment"):
        deliver(
            processor.handlers,
            ENFORCEMENT,
            topology=attune_topology,
            consumer="executor.enforcment",
        )


# Publishing without a broker.


def test_a_message_that_no_queue_takes_is_unroutable_without_a_broker(
    recording: RecordingPublisher,
) -> None:
    with pytest.raises(Unroutable, match="nobody"):
        recording.publish(ENFORCEMENT, route=Route("attune.executions", "nobody"))

    assert recording.published == ()


@pytest.mark.parametrize(
    ("route", "headers", "told"),
    [
        (Route("no.such.exchange", ""), {}, "404"),
        (Route("attune.dlx.direct", ""), {}, "internal"),
        (None, {"x": 1.5}, "cannot be sent"),
    ],
)
def test_what_a_broker_refuses_is_refused_without_one(
    recording: RecordingPublisher, route: Route | None, headers: dict[str, Any], told: str
) -> None:
    with pytest.raises(PublishRefused, match=told):
        recording.publish(ENFORCEMENT, route=route, headers=headers)


def test_a_type_that_the_file_does_not_route_is_an_error_without_a_broker(
    recording: RecordingPublisher,
) -> None:
    class Unknown(payloads.Payload):
        message_type = "Unknown"

    with pytest.raises(UnknownName, match="Unknown"):
        recording.publish(Unknown())


def test_the_queues_of_an_instance_are_there_where_the_instance_is_named(
    attune_topology: Topology,
) -> None:
    worker = instantiate(attune_topology, "worker", worker_id=7)
    route = worker.route("ExecutionRequested")
    request = payloads.ExecutionRequested(execution_id=1, action_ref="core.echo")
    with_worker = RecordingPublisher(attune_topology, worker)

    with pytest.raises(Unroutable):
        RecordingPublisher(attune_topology).publish(request, route=route)
    with_worker.publish(request, route=route)

    assert with_worker.published[0].queues == ("worker.7.executions",)


def test_many_messages_are_recorded_in_order_and_can_be_forgotten(
    recording: RecordingPublisher,
) -> None:
    numbered = [ENFORCEMENT.model_copy(update={"enforcement_id": n}) for n in range(3)]

    assert len(recording.publish_many(numbered)) == 3

    taken = [one.payload_as(payloads.EnforcementCreated) for one in recording.published]
    assert taken == numbered
    assert [one.message_type for one in recording.published] == ["EnforcementCreated"] * 3
    recording.clear()
    assert recording.published == ()


def test_a_recording_publisher_starts_no_thread(recording: RecordingPublisher) -> None:
    before = threading.active_count()

    with recording:
        recording.publish(ENFORCEMENT)

    assert threading.active_count() == before


# With a broker.


def test_a_service_is_tested_on_an_empty_virtual_host(
    attune_topology: Topology, attune_broker_url: str
) -> None:
    told = threading.Event()
    service = Service("notifier", attune_topology, attune_broker_url)

    @service.on(payloads.NotificationCreated)
    def tell(message: Message[payloads.NotificationCreated]) -> None:
        assert message.payload.activity == "done"
        told.set()

    service.start()
    service.publisher.publish(
        payloads.NotificationCreated(
            notification_id=1, channel="c", entity_type="execution", entity="1", activity="done"
        )
    )

    assert told.wait(30)
    service.stop()


# The plugin.

INNER_TESTS = """
import sys

def test_nothing_of_the_library_is_loaded_before_it_is_asked_for():
    assert not {"pika", "pydantic", "yaml"} & sys.modules.keys()

def test_the_topology_is_that_of_the_option(attune_topology):
    assert list(attune_topology.queues) == ["work"]
"""


def test_the_plugin_costs_a_run_of_another_project_next_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nattune_topology = deploy/ours.yaml\n")
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "ours.yaml").write_text(RETRYING)
    (tmp_path / "test_inner.py").write_text(INNER_TESTS)
    others = ("-p", "no:hypothesispytest", "-p", "no:pytest_rabbitmq", "-p", "no:cacheprovider")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *others],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr

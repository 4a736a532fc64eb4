"""Traces of publishers and consumers on a real broker, as an exporter gets them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from attune_mq import Message, Publisher, Route, Topology, replay_dead_letters
from attune_mq.errors import DependencyUnavailable, Reject, RetryLater, Unroutable
from attune_mq.message import MAX_HEADER_BYTES
from attune_mq.tracing import Tracing
from tests.messaging.bench import (
    DEAD,
    QUEUE,
    Bench,
    Calls,
    consumer_of,
    failing,
    request,
    running,
)
from tests.messaging.bodies import body
from tests.tracing.spans import Spans, linked_ids, parent_id, span_id, trace_ids
from tests.waiting import wait_until

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
SAMPLED = 1
STRANGER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def tracing(topology: Topology, spans: Spans) -> Tracing:
    return Tracing(topology, tracer_provider=spans.provider)


@pytest.fixture
def publisher(bench: Bench, topology: Topology, tracing: Tracing) -> Iterator[Publisher]:
    with Publisher(topology, bench.url, telemetry=tracing) as publisher:
        yield publisher


def test_one_trace_tells_of_publishing_retrying_giving_up_and_replaying(
    bench: Bench, topology: Topology, publisher: Publisher, tracing: Tracing, spans: Spans
) -> None:
    def work(message: Message[Any]) -> None:
        if len(calls.messages) == 1:
            raise RetryLater("not yet", delay_s=0)
        if len(calls.messages) == 2:
            raise Reject("never")

    calls = Calls(work)
    with running(consumer_of(bench, topology, calls, telemetry=tracing)):
        publisher.publish(request(1))
        bench.wait_for_depth(DEAD, 1)
        spans.wait_for(5)
        assert replay_dead_letters(QUEUE, topology, bench.url, telemetry=tracing).replayed == 1
        sent, first, retry, second, given_up, replay, third = spans.wait_for(7)

    assert [span.name for span in spans.ended] == [
        "publish work",
        "process work.queue",
        "publish work.queue",
        "process work.queue",
        "publish dlx",
        "publish work",
        "process work.queue",
    ]
    assert len(trace_ids(spans.ended)) == 1
    each_is_the_child_of_the_one_before = [span_id(span) for span in spans.ended[:-1]]
    assert [parent_id(span) for span in spans.ended[1:]] == each_is_the_child_of_the_one_before
    assert linked_ids(retry) == [span_id(sent)]
    assert linked_ids(given_up) == [span_id(retry)]
    assert linked_ids(sent) == linked_ids(first) == linked_ids(second) == []
    assert parent_id(replay) == span_id(given_up)
    outcomes = [dict(span.attributes or {})["attune.outcome"] for span in (first, second, third)]
    assert outcomes == ["retried", "dead-lettered", "consumed"]
    assert [span.status.status_code for span in (first, second, third)] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]


def test_spans_have_the_attributes_of_the_messaging_conventions(
    bench: Bench, topology: Topology, publisher: Publisher, tracing: Tracing, spans: Spans
) -> None:
    with running(consumer_of(bench, topology, Calls(), telemetry=tracing, instance="host-7")):
        publisher.publish(request(1), message_id="m-1", correlation_id="c-1", trace_id=TRACE_ID)
        sent, processed = spans.wait_for(2)

    both = {
        "messaging.system": "rabbitmq",
        "messaging.rabbitmq.destination.routing_key": "requested",
        "messaging.message.id": "m-1",
        "messaging.message.conversation_id": "c-1",
        "attune.message_type": "ExecutionRequested",
    }
    size = dict(sent.attributes or {})["messaging.message.body.size"]
    assert dict(sent.attributes or {}) == {
        **both,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "work:requested",
        "messaging.message.body.size": size,
    }
    assert dict(processed.attributes or {}) == {
        **both,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "work:requested:work.queue",
        "messaging.rabbitmq.message.delivery_tag": 1,
        "messaging.message.body.size": size,
        "attune.attempt": 1,
        "attune.consumer_tag": "worker@host-7",
        "attune.outcome": "consumed",
        "attune.trace_id": TRACE_ID,
    }
    assert (sent.kind, processed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)


TRACE_ID = "0b7c0d0e-4c1f-4a53-9a43-1d0f6b6f6d11"


def test_what_a_handler_does_belongs_to_the_trace_of_its_message(
    bench: Bench, topology: Topology, publisher: Publisher, tracing: Tracing, spans: Spans
) -> None:
    def work(message: Message[Any]) -> None:
        with spans.provider.get_tracer("a handler").start_as_current_span("SELECT"):
            assert TRACEPARENT.fullmatch(tracing.headers()["traceparent"])
        if message.payload.execution_id == 1:
            publisher.publish(request(2))

    with running(consumer_of(bench, topology, Calls(work), telemetry=tracing)):
        publisher.publish(request(1))
        spans.wait_for(6)

    assert len(trace_ids(spans.ended)) == 1
    _, processed, select, answer, *_ = spans.ended
    assert parent_id(select) == parent_id(answer) == span_id(processed)


def test_a_failure_says_which_error_it_was(
    bench: Bench, topology: Topology, publisher: Publisher, tracing: Tracing, spans: Spans
) -> None:
    with running(consumer_of(bench, topology, failing(KeyError("k")), telemetry=tracing)):
        publisher.publish(request(1))
        _, processed, *_ = spans_with_error(spans)
    assert dict(processed.attributes or {})["error.type"] == "KeyError"
    assert processed.status.description == "'k'"

    with pytest.raises(Unroutable):
        publisher.publish(request(1), route=Route("work", "nobody"))
    sent = spans.ended[-1]
    assert sent.status.status_code is StatusCode.ERROR
    assert dict(sent.attributes or {})["error.type"] == "Unroutable"


def spans_with_error(spans: Spans) -> list[Any]:
    wait_until(lambda: len(spans.ended) >= 3, "it has failed once")
    return spans.ended


def test_a_message_that_is_held_during_a_pause_has_a_span_for_each_trial(
    bench: Bench, topology: Topology, publisher: Publisher, tracing: Tracing, spans: Spans
) -> None:
    def work(_message: Message[Any]) -> None:
        if len(calls.messages) == 1:
            raise DependencyUnavailable("billing", "it does not answer")

    calls = Calls(work)
    with running(consumer_of(bench, topology, calls, telemetry=tracing)):
        publisher.publish(request(1))
        sent, held, done = spans.wait_for(3)

    told = [dict(span.attributes or {}) for span in (held, done)]
    assert [one["attune.outcome"] for one in told] == ["held", "consumed"]
    assert told[0]["attune.reason"] == "billing"
    assert parent_id(held) == parent_id(done) == span_id(sent)


def test_a_body_that_cannot_be_read_is_an_error_of_its_span(
    bench: Bench, topology: Topology, tracing: Tracing, spans: Spans
) -> None:
    with running(consumer_of(bench, topology, Calls(), telemetry=tracing)):
        bench.put(QUEUE, b"no JSON")
        processed, given_up = spans.wait_for(2)

    attributes = dict(processed.attributes or {})
    assert attributes["error.type"] == "MalformedMessage"
    assert attributes["attune.reason"] == "unreadable"
    assert "attune.message_type" not in attributes
    assert parent_id(processed) is None
    assert parent_id(given_up) == span_id(processed)


def test_a_trace_that_another_program_began_goes_on_with_its_state(
    bench: Bench, topology: Topology, tracing: Tracing, spans: Spans
) -> None:
    headers = {"traceparent": STRANGER, "tracestate": "vendor=1"}
    with running(consumer_of(bench, topology, failing(Reject("no")), telemetry=tracing)):
        bench.put(QUEUE, body(), pika.BasicProperties(headers=headers))
        dead = bench.take_when_there(DEAD)
        processed, given_up = spans.wait_for(2)

    assert parent_id(processed) == 0xB7AD6B7169203331
    assert trace_ids(spans.ended) == {0x0AF7651916CD43DD8448EB211C80319C}
    assert dead.headers["tracestate"] == "vendor=1"
    assert dead.headers["traceparent"] == (
        f"00-0af7651916cd43dd8448eb211c80319c-{span_id(given_up):016x}-01"
    )


@pytest.mark.parametrize("traceparent", ["", "garbage", 7, b"\xff", [STRANGER], {"a": "b"}, None])
def test_a_header_that_is_no_trace_begins_one(
    bench: Bench, topology: Topology, tracing: Tracing, spans: Spans, traceparent: Any
) -> None:
    headers = {"traceparent": traceparent, "tracestate": traceparent}
    calls = Calls()
    with running(consumer_of(bench, topology, calls, telemetry=tracing)):
        bench.put(QUEUE, body(message_type="ExecutionRequested"), properties_of(headers))
        spans.wait_for(1)

    assert len(calls.messages) == 1
    assert parent_id(spans.ended[0]) is None


def properties_of(headers: dict[str, Any]) -> pika.BasicProperties:
    return pika.BasicProperties(headers=headers)


def test_a_trace_that_is_not_sampled_is_passed_on_all_the_same(
    bench: Bench, topology: Topology
) -> None:
    spans = Spans(ALWAYS_OFF)
    tracing = Tracing(topology, tracer_provider=spans.provider)
    with Publisher(topology, bench.url, telemetry=tracing) as publisher:
        publisher.publish(request(1))

    traceparent = bench.take_when_there(QUEUE).headers["traceparent"]
    assert TRACEPARENT.fullmatch(traceparent)
    assert int(traceparent[-2:], 16) & SAMPLED == 0
    assert spans.ended == []


def test_without_an_sdk_a_message_goes_out_as_it_is(bench: Bench, topology: Topology) -> None:
    with Publisher(topology, bench.url, telemetry=Tracing(topology)) as publisher:
        publisher.publish(request(1))

    assert bench.take_when_there(QUEUE).headers == {}


def test_headers_that_just_fit_go_out_without_a_trace_rather_than_not_at_all(
    bench: Bench, publisher: Publisher
) -> None:
    headers = {"large": "x" * (MAX_HEADER_BYTES - 180)}
    publisher.publish(request(1), headers=headers)

    assert bench.take_when_there(QUEUE).headers == headers


def test_the_headers_of_who_publishes_stay_his(bench: Bench, publisher: Publisher) -> None:
    headers = {"tenant": "a"}
    publisher.publish_many([])
    publisher.publish(request(1), headers=headers)

    assert bench.take_when_there(QUEUE).headers.keys() == {"tenant", "traceparent"}
    assert headers == {"tenant": "a"}


def test_many_published_together_have_a_span_each(
    bench: Bench, publisher: Publisher, spans: Spans
) -> None:
    publisher.publish_many([request(n) for n in range(10)])

    assert {m.headers["traceparent"][36:52] for m in bench.take_all(QUEUE)} == {
        f"{span_id(span):016x}" for span in spans.wait_for(10)
    }


OFF = """
import sys
import attune_mq
from attune_mq import Consumer, Publisher, Service, payloads
from attune_mq.message import Telemetries
import attune_mq.transactional, attune_mq.metrics, attune_executor.service
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_nothing_of_opentelemetry_is_imported_while_it_is_off() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"

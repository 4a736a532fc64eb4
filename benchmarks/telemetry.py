"""What listening costs: processor time for one message, from its delivery to its acknowledgement.

    python benchmarks/telemetry.py

Decoding, validation and the decision are in it; the broker is not, so that only the difference
counts. The rounds alternate, and the fastest of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import pika
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry, Counter, Histogram

from attune_mq.consuming.handlers import Handlers
from attune_mq.consuming.pausing import Pause
from attune_mq.consuming.processing import Action, Processor
from attune_mq.consuming.status import Progress
from attune_mq.message.delivery import Delivery, Message
from attune_mq.message.envelope import Envelope, encode
from attune_mq.message.properties import amqp_properties
from attune_mq.message.telemetry import Telemetries, Telemetry
from attune_mq.metrics import Metrics
from attune_mq.metrics.counters import Counts, Durations
from attune_mq.metrics.table import CONSUMED, HANDLING
from attune_mq.payloads import ExecutionRequested
from attune_mq.testing import RecordingPublisher
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.tracing import Tracing

MESSAGES = 500
ROUNDS = 60
CALLS = 10_000
TOPOLOGY = expand(
    parse_topology(
        """
        version: 1
        exchanges: {work: {name: work, type: direct}}
        queues: {work: {name: work.queue}}
        bindings: [{source: work, destination: work, routing_key: requested}]
        messages: {ExecutionRequested: {exchange: work, routing_key: requested}}
        consumers: {worker: {service: bench, queue: work}}
        """
    )
)


def delivery() -> Delivery:
    payload = ExecutionRequested(execution_id=1, action_ref="core.echo", config={"x": "y" * 200})
    envelope = Envelope.of(payload)
    properties: pika.BasicProperties = amqp_properties(envelope)
    return Delivery(
        encode(envelope), properties, 1, False, "work", "requested", "work.queue", "worker"
    )


def way_of(telemetry: Telemetry | None) -> Callable[[Delivery], None]:
    """What a consumer does with one delivery, its connection aside."""
    handlers = Handlers()

    @handlers.on(ExecutionRequested)
    def ignore(_message: Message[ExecutionRequested]) -> None: ...

    guarded = None if telemetry is None else Telemetries([telemetry])
    processor = Processor(
        TOPOLOGY,
        TOPOLOGY.consumer("worker"),
        handlers,
        RecordingPublisher(TOPOLOGY),
        Progress("worker", "work.queue"),
        Pause("worker"),
        guarded,
    )

    def go(one: Delivery) -> None:
        if guarded is not None:
            guarded.delivered(one)
        assert processor.process(one) is Action.ACKNOWLEDGE

    return go


def processor_us(call: Callable[[], object], times: int) -> float:
    began_at = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began_at) / times * 1e6


def fastest_us(calls: Mapping[str, Callable[[], object]], times: int) -> dict[str, float]:
    rounds = [
        {name: processor_us(call, times) for name, call in calls.items()} for _ in range(ROUNDS)
    ]
    return {name: min(one[name] for one in rounds) for name in calls}


def messages() -> None:
    one = delivery()
    telemetries: dict[str, Telemetry | None] = {
        "nobody listens": None,
        "somebody listens and does nothing": Telemetry(),
        "metrics": Metrics(TOPOLOGY),
        "traces, no SDK": Tracing(TOPOLOGY, tracer_provider=NoOpTracerProvider()),
        "traces, not sampled": Tracing(TOPOLOGY, tracer_provider=TracerProvider(ALWAYS_OFF)),
        "traces, sampled, not exported": Tracing(TOPOLOGY, tracer_provider=TracerProvider()),
    }
    ways = {name: way_of(telemetry) for name, telemetry in telemetries.items()}
    fastest = fastest_us({name: partial(go, one) for name, go in ways.items()}, MESSAGES)
    off = fastest["nobody listens"]
    print("processor time of a message, µs")
    for name, us in fastest.items():
        print(f"  {name:<36}{us:>8.1f}{us - off:>+8.1f}")


def additions() -> None:
    """Ours beside those of prometheus_client."""
    labels = ("queue", "tag", "type")
    registry = CollectorRegistry()
    counter = Counter("c", "c", labels, registry=registry).labels(*labels)
    histogram = Histogram("h", "h", labels, registry=registry).labels(*labels)
    counts, durations = Counts(CONSUMED), Durations(HANDLING)
    fastest = fastest_us(
        {
            "Counts.add": lambda: counts.add(labels),
            "prometheus_client Counter.inc": counter.inc,
            "Durations.observe_each": lambda: durations.observe_each({labels: [0.02]}),
            "prometheus_client Histogram.observe": lambda: histogram.observe(0.02),
        },
        CALLS,
    )
    print("one addition, µs")
    for name, us in fastest.items():
        print(f"  {name:<36}{us:>8.2f}")


if __name__ == "__main__":
    messages()
    additions()

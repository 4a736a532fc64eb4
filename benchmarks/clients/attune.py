"""The library, with all that its runtime does; for consuming also without metrics and health."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

from attune_mq import HealthServer, Message, Publisher, Service, parse_topology
from attune_mq.metrics import Metrics
from attune_mq.payloads import EnforcementCreated
from attune_mq.topology.model import Topology
from benchmarks.clients.measuring import EXCHANGE, ROUTING_KEY, Client, Stopwatch, Task, Timing

THREADS = 8
CONSUMERS = (1, 10, 100)
"""In one process: how many a run may ask for."""


def topology(task: Task, consumers: int = 1) -> Topology:
    """Each consumer has a queue of its own, and each queue gets every message."""
    queues = [task.queue, *(f"{task.queue}-{number}" for number in range(1, consumers))]
    settings = f"service: bench, prefetch: {task.prefetch}, concurrency: 1"
    lines = [
        "version: 1",
        f"exchanges: {{bench: {{name: {EXCHANGE}, type: direct}}}}",
        "queues:",
        *(f"  q{i}: {{name: {name}, dead_letter: false}}" for i, name in enumerate(queues)),
        "bindings:",
        *(
            f"  - {{source: bench, destination: q{i}, routing_key: {ROUTING_KEY}}}"
            for i in range(consumers)
        ),
        f"messages: {{EnforcementCreated: {{exchange: bench, routing_key: {ROUTING_KEY}}}}}",
        "consumers:",
        *(f"  c{i}: {{queue: q{i}, {settings}}}" for i in range(consumers)),
    ]
    return parse_topology("\n".join(lines) + "\n")


def consume(task: Task, *, consumers: int = 1) -> Timing:
    """As a service runs in production: set up, with its metrics and its health. ``task.messages``
    wait in each queue."""
    whole = topology(task, consumers)
    metrics = Metrics(whole)
    service = Service("bench", whole, task.url, telemetry=metrics)
    metrics.watch(service)
    with HealthServer(service, port=0, metrics=metrics.exposition):
        return _consume(service, task.messages * consumers)


def consume_unobserved(task: Task) -> Timing:
    return _consume(Service("bench", topology(task), task.url), task.messages)


def _consume(service: Service, messages: int) -> Timing:
    """Timed from when all consumers consume; what they hold by then waits for that."""
    watch, begun, done, counting = Stopwatch(), threading.Event(), threading.Event(), count(1)

    @service.on(EnforcementCreated)
    def on_message(_message: Message[EnforcementCreated]) -> None:
        begun.wait()
        if next(counting) == messages:
            done.set()

    service.start()
    while not all(consumer.state == "consuming" for consumer in service.consumers):
        time.sleep(0.001)
    watch.start()
    begun.set()
    done.wait()
    while any(consumer.in_flight for consumer in service.consumers):
        time.sleep(0.001)  # until the last acknowledgement has been sent
    timing = watch.stop(messages)
    service.stop()
    return timing


def payload(number: int) -> EnforcementCreated:
    return EnforcementCreated(
        enforcement_id=number,
        rule_id=7,
        rule_ref="core.on_alert",
        event_id=9,
        trigger_ref="core.alert",
        payload={"host": "db1.example.org", "text": "x" * 40},
    )


def publish_many(task: Task) -> Timing:
    watch = Stopwatch()
    with Publisher(topology(task), task.url, source_service="benchmark") as publisher:
        publisher.publish(payload(0))
        watch.start()
        publisher.publish_many(payload(number) for number in range(task.messages))
        return watch.stop(task.messages)


def publish(task: Task, *, threads: int = 1) -> Timing:
    watch = Stopwatch()
    with Publisher(topology(task), task.url, source_service="benchmark") as publisher:
        publisher.publish(payload(0))

        def some(numbers: range) -> None:
            for number in numbers:
                publisher.publish(payload(number))

        watch.start()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(some, [range(i, task.messages, threads) for i in range(threads)]))
        return watch.stop(task.messages)


def publish_from_threads(task: Task) -> Timing:
    return publish(task, threads=THREADS)


CLIENTS: dict[str, Client] = {
    "attune": consume,
    "attune, unobserved": consume_unobserved,
    **{f"attune x {many}": partial(consume, consumers=many) for many in CONSUMERS},
    "attune-many": publish_many,
    "attune-one-by-one": publish,
    "attune-8-threads": publish_from_threads,
}

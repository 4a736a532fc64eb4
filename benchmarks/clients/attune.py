"""The library, with all that its runtime does."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from attune_mq import Consumer, Handlers, Message, Publisher, parse_topology
from attune_mq.messaging.payloads import EnforcementCreated
from attune_mq.topology.model import Topology
from benchmarks.clients.measuring import EXCHANGE, ROUTING_KEY, Client, Stopwatch, Task, Timing

THREADS = 8


def topology(queue: str) -> Topology:
    return parse_topology(
        f"""
version: 1
exchanges:
  bench: {{name: {EXCHANGE}, type: direct}}
queues:
  bench: {{name: {queue}, dead_letter: false}}
bindings:
  - {{source: bench, destination: bench, routing_key: {ROUTING_KEY}}}
messages:
  EnforcementCreated: {{exchange: bench, routing_key: {ROUTING_KEY}}}
consumers:
  bench: {{service: bench, queue: bench}}
"""
    )


def consume(task: Task) -> Timing:
    handlers, watch, done = Handlers(), Stopwatch(), threading.Event()
    taken = 0

    @handlers.on(EnforcementCreated)
    def on_message(_message: Message[EnforcementCreated]) -> None:
        nonlocal taken
        if not taken:
            watch.start()
        taken += 1
        if taken == task.messages:
            done.set()

    consumer = Consumer(
        topology(task.queue), "bench", handlers, task.url, prefetch=task.prefetch, concurrency=1
    )
    consumer.start()
    done.wait()
    while consumer.status.in_flight:  # until the last acknowledgement has been sent
        time.sleep(0.001)
    timing = watch.stop(task.messages)
    consumer.stop()
    consumer.join()
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
    with Publisher(topology(task.queue), task.url, source_service="benchmark") as publisher:
        publisher.publish(payload(0))
        watch.start()
        publisher.publish_many(payload(number) for number in range(task.messages))
        return watch.stop(task.messages)


def publish(task: Task, *, threads: int = 1) -> Timing:
    watch = Stopwatch()
    with Publisher(topology(task.queue), task.url, source_service="benchmark") as publisher:
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
    "attune-many": publish_many,
    "attune-one-by-one": publish,
    "attune-8-threads": publish_from_threads,
}

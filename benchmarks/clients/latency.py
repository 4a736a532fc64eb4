"""From publishing to the handler, at a steady rate: one process publishes, another one consumes.

    python -m benchmarks.clients.latency consume|publish pika|attune URL QUEUE COUNT

Each message holds the time at which it was to be sent, so a sender that falls behind is late too.
The clock is the monotonic one, which all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pika

from attune_mq import Consumer, Handlers, Message, Publisher
from attune_mq.payloads import EnforcementCreated
from benchmarks.clients.attune import topology
from benchmarks.clients.bare_pika import properties
from benchmarks.clients.measuring import EXCHANGE, ROUTING_KEY, PlainEnvelope, Task, body

PER_SECOND, THREADS = 1_000, 4
_SENT = "sent_ns"
_ready = "ready\n"

Send = Callable[[int, int], object]
"""A number and a time to send."""


def consume_with_pika(url: str, queue: str, count: int) -> list[int]:
    took: list[int] = []
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=100)

    def on_message(channel: Any, method: Any, _properties: object, body: bytes) -> None:
        envelope = PlainEnvelope.model_validate_json(body)
        took.append(time.monotonic_ns() - envelope.payload.payload[_SENT])
        channel.basic_ack(method.delivery_tag)
        if len(took) == count:
            channel.stop_consuming()

    channel.basic_consume(queue, on_message)
    sys.stdout.write(_ready)
    sys.stdout.flush()
    channel.start_consuming()
    connection.close()
    return took


def consume_with_attune(url: str, queue: str, count: int) -> list[int]:
    took: list[int] = []
    handlers, done = Handlers(), threading.Event()

    @handlers.on(EnforcementCreated)
    def on_message(message: Message[EnforcementCreated]) -> None:
        took.append(time.monotonic_ns() - message.payload.payload[_SENT])
        if len(took) == count:
            done.set()

    consumer = Consumer(
        topology(Task(url, queue, 0, 100)), "c0", handlers, url, prefetch=100, concurrency=1
    )
    consumer.start()
    while consumer.status.state != "consuming":
        time.sleep(0.01)
    sys.stdout.write(_ready)
    sys.stdout.flush()
    done.wait()
    consumer.stop()
    consumer.join()
    return took


@contextmanager
def sending_with_pika(url: str, _queue: str) -> Iterator[Send]:
    """A connection for each thread: pika's are for one thread."""
    local = threading.local()

    def send(number: int, sent_ns: int) -> None:
        if not hasattr(local, "channel"):
            local.channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
            local.channel.confirm_delivery()
        envelope = json.loads(body(number))
        envelope["payload"]["payload"][_SENT] = sent_ns
        local.channel.basic_publish(
            EXCHANGE, ROUTING_KEY, json.dumps(envelope).encode(), properties(number)
        )

    yield send


@contextmanager
def sending_with_attune(url: str, queue: str) -> Iterator[Send]:
    with Publisher(
        topology(Task(url, queue, 0, 100)), url, source_service="benchmark"
    ) as publisher:

        def send(number: int, sent_ns: int) -> None:
            publisher.publish(
                EnforcementCreated(
                    enforcement_id=number,
                    rule_id=7,
                    rule_ref="core.on_alert",
                    event_id=9,
                    trigger_ref="core.alert",
                    payload={"host": "db1.example.org", "text": "x" * 20, _SENT: sent_ns},
                )
            )

        yield send


def publish(send: Send, count: int) -> None:
    """Every thread its share of the beats."""
    send(0, 0)  # it opens the connection; consumers do not count it
    began = time.monotonic_ns() + 200_000_000

    def some(numbers: range) -> None:
        for number in numbers:
            due = began + number * 1_000_000_000 // PER_SECOND
            time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
            send(number, max(due, 1))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(some, [range(i, count, THREADS) for i in range(THREADS)]))


def summary(took: list[int]) -> dict[str, float]:
    """In milliseconds; the first tenth is for warming up."""
    counted = sorted(took[1 + len(took) // 10 :])
    return {
        "median": counted[len(counted) // 2] / 1e6,
        "p99": counted[int(len(counted) * 0.99)] / 1e6,
    }


def main(role: str, kind: str, url: str, queue: str, count: str) -> None:
    if role == "consume":
        consume = consume_with_pika if kind == "pika" else consume_with_attune
        json.dump(summary(consume(url, queue, int(count) + 1)), sys.stdout)
    else:
        sending = sending_with_pika if kind == "pika" else sending_with_attune
        with sending(url, queue) as send:
            publish(send, int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""pika by itself: what the library stands on, and so what it is measured by."""

from __future__ import annotations

from collections import deque
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from benchmarks.clients.measuring import (
    EXCHANGE,
    ROUTING_KEY,
    Client,
    PlainEnvelope,
    Stopwatch,
    Task,
    Timing,
    body,
)

IN_FLIGHT = 500


def properties(number: int) -> pika.BasicProperties:
    message_id = f"550e8400-e29b-41d4-a716-{number:012d}"
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=message_id,
        correlation_id=message_id,
        timestamp=1_700_000_000,
    )


def consume(task: Task, *, ack_every: int = 1) -> Timing:
    connection = pika.BlockingConnection(pika.URLParameters(task.url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=task.prefetch)
    watch, taken = Stopwatch(), 0

    def on_message(
        channel: BlockingChannel, method: pika.spec.Basic.Deliver, _properties: object, body: bytes
    ) -> None:
        nonlocal taken
        if not taken:
            watch.start()
        PlainEnvelope.model_validate_json(body)
        taken += 1
        if taken % ack_every == 0 or taken == task.messages:
            channel.basic_ack(method.delivery_tag or 0, multiple=ack_every > 1)
        if taken == task.messages:
            channel.stop_consuming()

    channel.basic_consume(task.queue, on_message)
    channel.start_consuming()
    timing = watch.stop(task.messages)
    connection.close()
    return timing


def consume_ack_32(task: Task) -> Timing:
    return consume(task, ack_every=32)


def publish(task: Task, *, confirmed: bool = True) -> Timing:
    connection = pika.BlockingConnection(pika.URLParameters(task.url))
    channel = connection.channel()
    if confirmed:
        channel.confirm_delivery()
    watch = Stopwatch()
    watch.start()
    for number in range(task.messages):
        channel.basic_publish(
            EXCHANGE, ROUTING_KEY, body(number), properties(number), mandatory=confirmed
        )
    connection.process_data_events()
    timing = watch.stop(task.messages)
    connection.close()
    return timing


def publish_unconfirmed(task: Task) -> Timing:
    return publish(task, confirmed=False)


class _Selecting:
    """500 in flight on a ``SelectConnection``."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._watch = Stopwatch()
        self._waiting: deque[int] = deque(range(task.messages))
        self._sent = self._confirmed = 0
        self.timing: Timing | None = None
        self._connection = pika.SelectConnection(
            pika.URLParameters(task.url),
            on_open_callback=lambda opened: opened.channel(on_open_callback=self._on_channel),
        )
        self._channel: Any = None

    def run(self) -> Timing:
        self._connection.ioloop.start()
        assert self.timing is not None
        return self.timing

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm, lambda _: self._begin())

    def _begin(self) -> None:
        self._watch.start()
        self._fill()

    def _fill(self) -> None:
        while self._waiting and self._sent - self._confirmed < IN_FLIGHT:
            number = self._waiting.popleft()
            self._channel.basic_publish(
                EXCHANGE, ROUTING_KEY, body(number), properties(number), mandatory=True
            )
            self._sent += 1

    def _on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        self._confirmed = max(self._confirmed, tag) if frame.method.multiple else tag
        self._fill()
        if self._confirmed >= self._task.messages:
            self.timing = self._watch.stop(self._task.messages)
            self._connection.ioloop.stop()


def publish_selecting(task: Task) -> Timing:
    return _Selecting(task).run()


CLIENTS: dict[str, Client] = {
    "pika": consume,
    "pika-ack-32": consume_ack_32,
    "pika-confirm": publish,
    "pika-unconfirmed": publish_unconfirmed,
    "pika-select-500": publish_selecting,
}

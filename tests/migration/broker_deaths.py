"""A migration whose *broker* is killed while a batch is on its way."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika
import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.errors import AttuneError
from attune_mq.migration.migrating import migrate
from attune_mq.migration.queue_reader import QueueReader
from attune_mq.migration.report import Progress, Step
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.model import Topology
from tests.messaging.bench import QUEUE, Bench

MESSAGES = 600
"""Two batches, and some."""
MOMENTS = ("sent", "confirmed", "acknowledged")
"""Of the copies: while they are sent; when they are confirmed; when the originals are
acknowledged."""


def fill_queue(url: str) -> None:
    bench = Bench(url)
    channel = bench.connection.channel()
    channel.tx_select()
    for number in range(MESSAGES):
        properties = pika.BasicProperties(message_id=str(number), delivery_mode=2)
        channel.basic_publish("", QUEUE, b"x" * 300, properties)
    channel.tx_commit()
    bench.close()


def taken(url: str) -> Counter[str]:
    """By message id."""
    bench = Bench(url)
    messages = bench.take_all(QUEUE)
    bench.close()
    return Counter(str(one.properties.message_id) for one in messages)


def migrate_and_kill_the_broker(
    broker: EmbeddedBroker, url: str, topology: Topology, step: Step, moment: str
) -> None:
    """In the second batch of the step; it runs again afterwards."""
    killing = _Killing(broker, step, moment)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, wrap in (
            (Publisher, "send", killing.around_send),
            (QueueReader, "acknowledge", killing.around_acknowledge),
        ):
            patch.setattr(owner, name, wrap(getattr(owner, name)))
        with suppress(AttuneError, pika.exceptions.AMQPError):
            migrate(topology, url, names=[QUEUE], on_progress=killing.see)
    killing.join()
    broker.start()


class _Killing:
    def __init__(self, broker: EmbeddedBroker, step: Step, moment: str) -> None:
        self._broker = broker
        self._where = step
        self._moment = moment
        self._step: Step | None = None
        self._batches = 0
        self._thread = threading.Thread(target=broker.kill)

    def see(self, progress: Progress) -> None:
        self._step = progress.step

    def join(self) -> None:
        self._thread.join()  # it raises where the broker was not killed

    def around_send(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(publisher: Publisher, copies: Any) -> Any:
            if len(copies) > 1:
                self._batches += self._step is self._where
                if self._is_now("sent"):
                    self._thread.start()
            return send(publisher, copies)

        return wrapped

    def around_acknowledge(self, acknowledge: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> None:
            if self._is_now("confirmed"):
                self._kill()
            acknowledge(*arguments)
            if self._is_now("acknowledged"):
                self._kill()

        return wrapped

    def _is_now(self, moment: str) -> bool:
        return moment == self._moment and self._batches == 2 and self._thread.ident is None

    def _kill(self) -> None:
        self._thread.start()
        self._thread.join()

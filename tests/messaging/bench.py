"""What the tests of publisher and consumer share: a small topology, a look into the broker by a
connection of their own, and waiting for what nothing announces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq import Consumer, Handlers, Message, Topology, parse_topology, setup_infrastructure
from attune_mq.payloads import ExecutionRequested
from tests import secret_canaries
from tests.waiting import wait_until

WAIT_S = 30.0
"""A deadline against hanging, not a claim about speed."""

CLOSED_URL = "amqp://guest:guest@127.0.0.1:1/%2F"
"""Nothing listens on port 1."""
WORK = """
version: 1
dead_letter: {exchange: dlx, ttl: 1h}
exchanges:
  work: {name: work, type: direct}
  dlx: {name: dlx, type: fanout}
queues:
  work: {name: work.queue}
bindings:
  - {source: work, destination: work, routing_key: requested}
messages:
  ExecutionRequested: {exchange: work, routing_key: requested, publishers: [api]}
consumers:
  worker: {service: tests, queue: work, prefetch: 10}
"""


QUEUE, DEAD = "work.queue", "work.queue.dlq"


def topology_of(text: str = WORK, **queue: str) -> Topology:
    """WORK, or another text; with further keys of the queue ``work``, as YAML has them."""
    further = "".join(f", {key}: {value}" for key, value in queue.items())
    text = text.replace("{name: work.queue}", f"{{name: work.queue{further}}}")
    return parse_topology(text, file="topology.yaml", environment={})


def request(number: int) -> ExecutionRequested:
    config = {"message": secret_canaries.PAYLOAD}
    return ExecutionRequested(execution_id=number, action_ref="core.echo", config=config)


class Waiting(NamedTuple):
    """A message as it lies in a queue."""

    body: bytes
    properties: pika.BasicProperties
    redelivered: bool

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})


class Bench:
    """A connection and a channel for the test's own thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        parameters = pika.URLParameters(url)
        parameters.heartbeat = 600  # a test that waits does not serve it
        self.connection = pika.BlockingConnection(parameters)
        self._channel = self.connection.channel()

    @property
    def channel(self) -> BlockingChannel:
        """Confirming; a fresh one after the broker closed the last."""
        if not self._channel.is_open:
            self._channel = self.connection.channel()
        return self._channel

    def set_up(self, topology: Topology) -> None:
        setup_infrastructure(topology, self.connection)

    def put(
        self,
        queue: str,
        body: bytes,
        properties: pika.BasicProperties | None = None,
    ) -> None:
        """Straight into a queue, confirmed."""
        channel = self.connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, properties, mandatory=True)
        channel.close()

    def depth(self, queue: str) -> int:
        """How many messages are ready, those that a consumer has not counted."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def wait_for_depth(self, queue: str, count: int) -> None:
        wait_until(lambda: self.depth(queue) == count, f"{count} messages ready in {queue}")

    def wait_for_consumers(self, queue: str, count: int) -> None:
        def consumers() -> int:
            return int(self.channel.queue_declare(queue, passive=True).method.consumer_count)

        wait_until(lambda: consumers() == count, f"{count} consumers of {queue}")

    def take(self, queue: str) -> Waiting | None:
        """The next message, which is then gone from the queue."""
        method, properties, body = self.channel.basic_get(queue, auto_ack=True)
        if method is None or properties is None:
            return None
        return Waiting(body or b"", properties, bool(method.redelivered))

    def take_when_there(self, queue: str) -> Waiting:
        self.wait_for_depth(queue, 1)
        message = self.take(queue)
        assert message is not None
        return message

    def take_all(self, queue: str) -> list[Waiting]:
        return list(iter(lambda: self.take(queue), None))

    def close(self) -> None:
        with suppress(pika.exceptions.AMQPError):  # its broker may have been killed
            self.connection.close()


class Calls:
    """A handler that remembers its calls, and does what a test gives it to do."""

    def __init__(self, work: Callable[[Message[Any]], None] | None = None) -> None:
        self.messages: list[Message[Any]] = []
        self._work = work
        self._changed = threading.Condition()

    def __call__(self, message: Message[Any]) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
        if self._work is not None:
            self._work(message)

    def wait_for(self, count: int) -> list[Message[Any]]:
        """Returns when it was called so often."""
        with self._changed:
            called = self._changed.wait_for(lambda: len(self.messages) >= count, WAIT_S)
            assert called, f"still waiting: call number {count}, got {len(self.messages)}"
            return list(self.messages)

    @property
    def ids(self) -> list[int]:
        """Which executions were asked for, in the order of the calls."""
        return [message.payload.execution_id for message in self.messages]


def wait_for(event: threading.Event, what: str) -> None:
    assert event.wait(WAIT_S), f"still waiting: {what}"


class Gate:
    """A handler's work that begins, and ends when it is let through."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_through = threading.Event()

    def __call__(self, _message: Message[Any]) -> None:
        self.entered.set()
        wait_for(self.let_through, "to be let through")


def failing(error: BaseException) -> Calls:
    def work(_message: Message[Any]) -> None:
        raise error

    return Calls(work)


def handlers_of(calls: Calls) -> Handlers:
    handlers = Handlers()
    handlers.on(ExecutionRequested)(calls)
    return handlers


def consumer_of(bench: Bench, topology: Topology, calls: Calls, **options: Any) -> Consumer:
    return Consumer(topology, "worker", handlers_of(calls), bench.url, **options)


@contextmanager
def running(*consumers: Consumer) -> Iterator[None]:
    """Started, and stopped at the end; whoever does not stop fails the test."""
    for consumer in consumers:
        consumer.start()
    try:
        yield
    finally:
        for consumer in consumers:
            consumer.stop(5)
        for consumer in consumers:
            assert consumer.join(WAIT_S), f"consumer '{consumer.tag}' does not stop"


def wait_for_state(consumer: Consumer, state: str) -> None:
    wait_until(lambda: consumer.status.state == state, f"consumer '{consumer.tag}' is {state}")


def wait_until_a_silent_connection_is_dropped(bench: Bench) -> None:
    """One with a heartbeat of a second that nobody serves; its exclusive queue goes with it."""
    parameters = pika.URLParameters(bench.url)
    parameters.heartbeat = 1
    silent = pika.BlockingConnection(parameters)
    queue = silent.channel().queue_declare("silent", exclusive=True).method.queue

    def is_gone() -> bool:
        try:
            bench.channel.queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code == 404
        return False

    wait_until(is_gone, "the broker drops the silent connection")
    with suppress(pika.exceptions.AMQPConnectionError):
        silent.close()

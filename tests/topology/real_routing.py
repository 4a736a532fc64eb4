"""A topology on a real broker: where its messages go, alive and dead."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from attune_mq.topology.declarations import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology
from attune_mq.topology.objects import Queue
from attune_mq.topology.routing import NO_HEADERS
from tests.topology.small_topologies import BUILT_IN, Dying

SETTLED_ROUNDS = 5
DEADLINE_S = 20.0
KILLER = "killer"
"""A fanout exchange with one queue behind it: it brings a message there with any routing key."""


class Refused(Exception):
    """The broker closed the channel."""


class RealRouting:
    """What a broker does with messages when it has a topology."""

    def __init__(self, connection: pika.BlockingConnection, topology: Topology) -> None:
        self._connection = connection
        self._channel = self._opened()
        self._wanted = declarations(expand(topology))
        self._queues = [wanted.name for wanted in self._wanted if wanted.kind == "queue"]

    def declare(self) -> None:
        for declaration in self._wanted:
            _declare(self._channel, declaration)

    def delete(self) -> None:
        channel = self._opened()
        for declaration in self._wanted:
            if declaration.kind == "queue":
                channel.queue_delete(declaration.name)
            if declaration.kind == "exchange":
                channel.exchange_delete(declaration.name)
            if isinstance(declaration, BindingDeclaration):
                _unbind_from_built_in(channel, declaration)

    def publish(
        self,
        exchange: str,
        routing_key: str = "",
        headers: Mapping[str, Any] = NO_HEADERS,
        body: bytes = b"message",
        **properties: Any,
    ) -> bool:
        """Whether a queue took it. Raises :class:`Refused`."""
        basic = pika.BasicProperties(headers=dict(headers), **properties)
        try:
            self._channel.basic_publish(exchange, routing_key, body, basic, mandatory=True)
        except UnroutableError:
            return False
        except ChannelClosedByBroker as error:
            self._channel = self._opened()
            raise Refused(error.reply_text) from error
        return True

    def drained(self, body: bytes = b"message") -> list[str]:
        """Names of the queues in which the message lies, one for each copy; they are emptied."""
        return [queue for queue in self._queues for found in self._taken(queue) if found == body]

    def die(self, dying: Dying) -> None:
        """Let a message die as ``dying`` says, and wait until it has come to rest."""
        self._channel.exchange_declare(KILLER, "fanout")
        self._channel.queue_bind(dying.queue, KILLER)
        message = (KILLER, dying.routing_key, dying.headers)
        match dying.reason:
            case "rejected":
                self.publish(*message)
                self._give_back(dying.queue, requeue=False)
            case "delivery_limit":
                self.publish(*message)
                self._give_back(dying.queue, requeue=True)
            case "expired":
                self.publish(*message, expiration="0")
            case "maxlen":
                self.publish(*message)
                self.publish(KILLER, body=b"the next message, for which there is no room")
        self._channel.exchange_delete(KILLER)

    def wait_until_settled(self, empty: Sequence[str]) -> None:
        """Until the queues in ``empty`` are, and nothing has moved for some rounds of asking."""
        deadline = time.monotonic() + DEADLINE_S
        rounds, before = 0, None
        while rounds < SETTLED_ROUNDS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"messages still move: {before}")
            counts = {queue: self.count(queue) for queue in self._queues}
            still = counts == before and not any(counts[queue] for queue in empty)
            rounds, before = (rounds + 1 if still else 0), counts

    def wait_for(self, queue: str, count: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.count(queue) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{queue} has {self.count(queue)} messages, not {count}")

    def count(self, queue: str) -> int:
        answer = self._channel.queue_declare(queue, passive=True)
        return int(answer.method.message_count)

    def _give_back(self, queue: str, *, requeue: bool) -> None:
        method, _, _ = self._channel.basic_get(queue)
        assert method is not None
        assert method.delivery_tag is not None
        self._channel.basic_reject(method.delivery_tag, requeue=requeue)

    def _taken(self, queue: str) -> Iterator[bytes]:
        while True:
            method, _, body = self._channel.basic_get(queue, auto_ack=True)
            if method is None or body is None:
                return
            yield body

    def _opened(self) -> BlockingChannel:
        channel = self._connection.channel()
        channel.confirm_delivery()
        return channel


@contextmanager
def on_a_broker(url: str, topology: Topology) -> Iterator[RealRouting]:
    """The topology is there while the context lasts, and gone afterwards."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    real = RealRouting(connection, topology)
    try:
        real.declare()
        yield real
    finally:
        real.delete()
        connection.close()


def mortal(queue: Queue, reason: str) -> Queue:
    """The same queue, such that a message can die in it for ``reason``."""
    match reason:
        case "maxlen":
            return queue.model_copy(update={"max_length": 1})
        case "delivery_limit":
            return queue.model_copy(update={"type": "quorum", "delivery_limit": 0})
        case _:
            return queue


def _unbind_from_built_in(channel: BlockingChannel, binding: BindingDeclaration) -> None:
    """Of all bindings these alone do not go with what they bind."""
    ends = (binding.source, binding.destination)
    if binding.destination_type == "exchange" and all(name in BUILT_IN for name in ends):
        destination, source = binding.destination, binding.source
        channel.exchange_unbind(destination, source, binding.routing_key, dict(binding.arguments))


def _declare(channel: BlockingChannel, declaration: Declaration) -> None:
    match declaration:
        case ExchangeDeclaration(name, kind, internal=internal, arguments=arguments):
            channel.exchange_declare(
                name, kind, durable=True, internal=internal, arguments=dict(arguments)
            )
        case QueueDeclaration(name, arguments=arguments):
            channel.queue_declare(name, durable=True, arguments=dict(arguments))
        case BindingDeclaration(source, destination, "queue", key, arguments):
            channel.queue_bind(destination, source, key, dict(arguments))
        case BindingDeclaration(source, destination, _, key, arguments):
            channel.exchange_bind(destination, source, key, dict(arguments))

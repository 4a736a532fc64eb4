"""Tests a service's handlers and publishing without a broker.

::

    from attune_mq.testing import Acknowledge, RecordingPublisher, deliver

    def test_an_enforcement_becomes_an_execution(attune_topology):
        service.publisher = RecordingPublisher(attune_topology)

        assert deliver(service.handlers, EnforcementCreated(...)) == Acknowledge()

        (published,) = service.publisher.published
        assert published.payload_as(ExecutionRequested).enforcement_id == 12

:func:`deliver` runs the code that a consumer runs: reading, dispatch by message type, the handler,
and the settlement, which it returns. :class:`RecordingPublisher` accepts messages as the real one
does and routes them by the topology.

With a broker: the fixture ``attune_broker_url`` (see :mod:`attune_mq.pytest_plugin`) is the URL of
an empty virtual host on a private RabbitMQ node; ``service.start()`` sets it up and consumes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pika

from attune_mq.consuming.handlers import Handlers
from attune_mq.consuming.processing import settlement_of
from attune_mq.errors import NotConfirmed, PublishError, PublishRefused, Unroutable
from attune_mq.message.delivery import COUNTED_IN, FAILURES, Delivery
from attune_mq.message.envelope import Envelope, decode, encode
from attune_mq.message.outgoing import Outcome, Outgoing, Receipt, amqp_properties
from attune_mq.message.payload import Payload
from attune_mq.message.settlement import (
    Acknowledge,
    DeadLetter,
    ErrorReport,
    Hold,
    RepublishWithCount,
    RetryPolicy,
    Settlement,
    TryAgain,
)
from attune_mq.message.stream_positions import OFFSET_HEADER, StreamDelivery
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.model import Route, Topology
from attune_mq.topology.routing import Router, Routing

__all__ = [
    "Acknowledge",
    "DeadLetter",
    "ErrorReport",
    "Hold",
    "Published",
    "RecordingPublisher",
    "RepublishWithCount",
    "Settlement",
    "TryAgain",
    "deliver",
]

P = TypeVar("P", bound=Payload)

ANY_QUEUE = "queue"
ANY_TAG = "consumer"
UNUSED_URL = "amqp://unused.invalid"


def deliver(
    handlers: Handlers,
    message: Payload | Envelope | bytes,
    *,
    attempt: int = 1,
    headers: Mapping[str, Any] | None = None,
    topology: Topology | None = None,
    consumer: str | None = None,
) -> Settlement:
    """Delivers one message to its handler, as a consumer would, and returns the settlement.

    ``message``: a payload, which gets an envelope; an envelope; or a body, valid or not.
    ``attempt``: from 1; a message whose last attempt fails is dead-lettered. ``headers``: of AMQP.
    ``topology`` with the tag of a ``consumer``: the retry policy of its queue, and the exchange and
    routing key of the delivery. Default: three attempts, with delays of 1 s and 5 s. If the queue
    is a stream, the header ``x-stream-offset`` is the offset of the message (default: 0).

    The settlement is one of :class:`Acknowledge`; :class:`TryAgain`, with the number of
    ``failures``, the ``error`` and the delay; :class:`DeadLetter`, with the ``reason``
    (``attempts exhausted``, ``rejected``, ``unreadable`` or ``unhandled``), the ``error`` and the
    number of ``attempts``; and :class:`Hold`, with the ``cause`` for which a consumer would pause,
    its ``dependency`` and its ``error``. An exception of the handler is not raised; it is the
    ``error``, with the end of its traceback in ``error.trace``.

    Raises :class:`~attune_mq.topology.model.UnknownName` for a tag that the topology does not
    have. Only the handler publishes.
    """
    queue, policy, is_stream = ANY_QUEUE, RetryPolicy(), False
    if topology is not None and consumer is not None:
        consumed = topology.queues[topology.consumer(consumer).queue]
        queue, is_stream = consumed.name, consumed.type == "stream"
        policy = RetryPolicy.of(consumed)
    delivery = _delivery(message, topology, queue, consumer or ANY_TAG)
    counts: dict[str, Any] = {FAILURES: attempt - 1, COUNTED_IN: queue}
    delivery.properties.headers = counts | dict(headers or {})
    if is_stream:
        offset = int(delivery.headers.get(OFFSET_HEADER, 0))
        delivery = StreamDelivery.like(delivery, offset=offset, failures=attempt - 1)
    return settlement_of(delivery, handlers, policy)


def _delivery(
    message: Payload | Envelope | bytes, topology: Topology | None, queue: str, tag: str
) -> Delivery:
    route, properties = Route("", queue), pika.BasicProperties()
    if isinstance(message, bytes):
        body = message
    else:
        envelope = Envelope.of(message) if isinstance(message, Payload) else message
        body, properties = encode(envelope), amqp_properties(envelope)
        if topology is not None and envelope.message_type in topology.messages:
            route = topology.route(envelope.message_type)
    return Delivery(
        body=body,
        properties=properties,
        delivery_tag=1,
        redelivered=False,
        exchange=route.exchange,
        routing_key=route.routing_key,
        queue=queue,
        consumer_tag=tag,
    )


@dataclass(frozen=True)
class Published:
    """One message that a :class:`RecordingPublisher` accepted, in the broker's names.

    ``queues``: those to which it is routed, sorted. ``headers``: of AMQP.
    """

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    headers: Mapping[str, Any]
    queues: tuple[str, ...]

    @property
    def envelope(self) -> Envelope:
        return decode(self.body)

    @property
    def message_type(self) -> str:
        return self.envelope.message_type

    def payload_as(self, payload: type[P]) -> P:
        """Raises :class:`~attune_mq.errors.MalformedMessage` for a message of another type."""
        return self.envelope.payload_as(payload)


class RecordingPublisher(Publisher):
    """A publisher that records messages and routes them by the topology instead of a broker.

    It refuses what the real one would, by the same code: a type without a route, an unroutable
    message, an exchange that is missing or internal, headers that AMQP cannot carry. Policies,
    limits and permissions of a broker are not simulated.

    ``instances``: instances of families that exist as well, such as
    ``instantiate(topology, "worker", worker_id=7)``. ``source_service`` as for the real one.
    """

    def __init__(
        self, topology: Topology, *instances: Topology, source_service: str | None = None
    ) -> None:
        super().__init__(topology, UNUSED_URL, source_service=source_service)
        self._routers = [Router(one) for one in (topology, *instances)]
        self._recording = threading.Lock()
        self._is_closed = False
        self._published: list[Published] = []
        self.failure: PublishError | None = None
        """While it is set, every message fails with it, as when the broker is unavailable."""

    @property
    def published(self) -> tuple[Published, ...]:
        """The messages accepted so far, in order."""
        with self._recording:
            return tuple(self._published)

    def clear(self) -> None:
        """Removes all from ``published``."""
        with self._recording:
            self._published.clear()

    def send(
        self, messages: Sequence[Outgoing], *, timeout_s: float | None = None
    ) -> list[Outcome]:
        with self._recording:
            return [self._fail(message) or self._take(message) for message in messages]

    def close(self, timeout_s: float = 5.0) -> None:
        """Later messages fail, as with the real one; ``published`` stays."""
        super().close(timeout_s)
        self._is_closed = True

    def _fail(self, message: Outgoing) -> PublishError | None:
        """Each message fails with an error of its own, as those of the real one do."""
        message_id = message.properties.message_id
        if self._is_closed:
            text = f"{message}: not confirmed: the publisher is closed"
            return NotConfirmed(text, sent=False, message_id=message_id)
        if self.failure is None:
            return None
        failure = type(self.failure).__new__(type(self.failure), *self.failure.args)
        failure.__dict__.update(self.failure.__dict__, message_id=message_id)
        return failure

    def _take(self, message: Outgoing) -> Outcome:
        headers = dict(message.properties.headers or {})
        message_id = str(message.properties.message_id)
        problem = message.problem()
        routing = self._routing(message, headers)
        if problem or routing.refused:
            text = f"{message}: refused: {problem or routing.refused}"
            return PublishRefused(text, message_id=message_id)
        if routing.unroutable and message.mandatory:
            text = f"{message}: no queue takes it; bind a queue to that key"
            return Unroutable(text, message_id=message_id)
        self._published.append(
            Published(message.exchange, message.routing_key, message.body, headers, routing.queues)
        )
        return Receipt(message_id, message.exchange, message.routing_key)

    def _routing(self, message: Outgoing, headers: Mapping[str, Any]) -> Routing:
        """By the whole file and all instances: it is routed to the queues of all of them."""
        exchange, key = message.exchange, message.routing_key
        found = [router.route(exchange, key, headers) for router in self._routers]
        known = [routing for routing in found if routing.refused is None]
        if not known:
            return found[0]
        queues = {queue for routing in known for queue in routing.queues}
        unsimulated = {name for routing in known for name in routing.unsimulated}
        return Routing(tuple(sorted(queues)), unsimulated=tuple(sorted(unsimulated)))

"""Traces by OpenTelemetry (extra ``tracing``).

::

    tracing = Tracing(topology)
    service = Service("billing", topology, telemetry=tracing)
    outbox = Outbox(tables.outbox, headers=tracing.headers)

The AMQP headers ``traceparent`` and ``tracestate`` carry the trace of a message
(https://www.w3.org/TR/trace-context/). Each publish is a span of kind ``PRODUCER``, whose context
is sent with the message; each processing one of kind ``CONSUMER``, its child, which is the current
span while the handler runs. So messages that a handler publishes, copies of a retry and dead
letters included, are its children in one trace. A message that is republished (a copy, a replayed
dead letter, a message of an outbox) also has a link to the span that published it before.

Names and attributes are those of OpenTelemetry's messaging conventions, which are not stable yet:
https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/. Without an SDK, which the user
configures, nothing is exported. No span has any part of a body.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from attune_mq.message import settlement
from attune_mq.message.delivery import Delivery
from attune_mq.message.envelope import Envelope
from attune_mq.message.labels import LabelValues
from attune_mq.message.outgoing import Outcome as PublishOutcome, Outgoing, Receipt
from attune_mq.message.telemetry import Dropped, Requeued, Scope, Settled, Telemetry
from attune_mq.topology.model import Topology

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
DEFAULT_EXCHANGE = "amq.default"

Attributes = dict[str, str | int]
_w3c = TraceContextTextMapPropagator()


class Tracing(Telemetry):
    """A telemetry that creates spans. ``topology``: the whole file, which bounds the number of span
    names. ``tracer_provider``: by default OpenTelemetry's global one."""

    def __init__(
        self, topology: Topology, *, tracer_provider: TracerProvider | None = None
    ) -> None:
        self._labels = LabelValues(topology)
        self._tracer = trace.get_tracer("attune_mq", version("attune-mq"), tracer_provider)
        self._publishing: dict[str, Span] = {}

    def headers(self) -> dict[str, str]:
        """The AMQP headers of the current trace, for an outbox; none where there is no span."""
        return _injected(None)

    def processing(self, delivery: Delivery) -> Scope:
        properties = delivery.properties
        queue, _ = self._labels.consumer(delivery.consumer_tag)
        attributes: Attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": _consumed_from(delivery),
            "messaging.rabbitmq.message.delivery_tag": delivery.delivery_tag,
            "messaging.message.body.size": len(delivery.body),
            "attune.attempt": delivery.failures + 1,
            "attune.consumer_tag": delivery.consumer_tag,
            **_identified(delivery.routing_key, properties.message_id, properties.correlation_id),
        }
        return self._tracer.start_as_current_span(
            f"process {queue}",
            context=_extracted(delivery.headers),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        )

    def handled(
        self, delivery: Delivery, envelope: Envelope, outcome: settlement.Outcome, seconds: float
    ) -> None:
        span = trace.get_current_span()
        if isinstance(outcome, settlement.Failed | settlement.Rejected | settlement.Unavailable):
            _failed(span, outcome.error)
        if isinstance(outcome, settlement.Unavailable):  # it stays unacked and is retried
            span.set_attribute("attune.outcome", "held")
            span.set_attribute("attune.reason", outcome.dependency)

    def settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None:
        """The span has ended where a copy was confirmed later, or a message is requeued."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        if envelope is not None:
            span.set_attribute("attune.message_type", envelope.message_type)
            if envelope.headers.trace_id is not None:
                span.set_attribute("attune.trace_id", envelope.headers.trace_id)
        outcome, dead = _outcome(how)
        span.set_attribute("attune.outcome", outcome)
        if isinstance(how, Requeued):
            span.set_attribute("attune.reason", how.reason)
        if dead is not None:
            span.set_attribute("attune.reason", dead.reason)
            _failed(span, dead.error)

    def publishing(self, message: Outgoing) -> Outgoing:
        came_by = _extracted(message.properties.headers or {})
        is_within_a_span = trace.get_current_span().get_span_context().is_valid
        before = trace.get_current_span(came_by).get_span_context()
        span = self._tracer.start_span(
            f"publish {self._target(message)}",
            context=None if is_within_a_span else came_by,
            kind=SpanKind.PRODUCER,
            attributes=_published_to(message),
            links=[Link(before)] if is_within_a_span and before.is_valid else None,
        )
        carrier = _injected(trace.set_span_in_context(span))
        traced = _with_headers(message, carrier)
        if traced is None:
            span.end()
            return message
        if span.is_recording():
            self._publishing[carrier[TRACEPARENT]] = span
        return traced

    def published(self, message: Outgoing, outcome: PublishOutcome, seconds: float) -> None:
        traceparent = (message.properties.headers or {}).get(TRACEPARENT)
        span = self._publishing.pop(str(traceparent), None)
        if span is None:
            return
        if not isinstance(outcome, Receipt):
            span.set_attribute("error.type", type(outcome).__name__)
            span.set_status(Status(StatusCode.ERROR, str(outcome)))
        span.end()

    def _target(self, message: Outgoing) -> str:
        """The default exchange routes to the queue of that name."""
        if message.exchange:
            return self._labels.exchange(message.exchange)
        return self._labels.queue(message.routing_key)


def _consumed_from(delivery: Delivery) -> str:
    """By the conventions: exchange, routing key and queue, unless empty or repeated."""
    parts = [delivery.exchange, delivery.routing_key]
    if delivery.queue != delivery.routing_key:
        parts.append(delivery.queue)
    return ":".join(part for part in parts if part)


def _published_to(message: Outgoing) -> Attributes:
    exchange, routing_key = message.exchange, message.routing_key
    name = ":".join(part for part in (exchange, routing_key) if part) or DEFAULT_EXCHANGE
    properties = message.properties
    attributes: Attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": name,
        "messaging.message.body.size": len(message.body),
        **_identified(routing_key, properties.message_id, properties.correlation_id),
    }
    if message.message_type:
        attributes["attune.message_type"] = message.message_type
    return attributes


def _identified(routing_key: str, message_id: object, correlation_id: object) -> Attributes:
    """pika returns bytes for what is no UTF-8."""
    found = {
        "messaging.rabbitmq.destination.routing_key": routing_key,
        "messaging.message.id": message_id,
        "messaging.message.conversation_id": correlation_id,
    }
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def _failed(span: Span, error: settlement.ErrorReport) -> None:
    span.set_attribute("error.type", error.type)
    span.set_status(Status(StatusCode.ERROR, error.text))


def _outcome(how: Settled) -> tuple[str, settlement.DeadLetter | None]:
    match how:
        case settlement.Acknowledge():
            return "consumed", None
        case settlement.TryAgain():
            return "retried", None
        case settlement.RepublishWithCount():
            return "counted", None
        case settlement.DeadLetter():
            return "dead-lettered", how
        case Dropped(dead):
            return "dropped", dead
        case Requeued():
            return "requeued", None


def _extracted(headers: Mapping[Any, Any]) -> Context:
    """Other senders may write values of any type; an invalid trace is ignored."""
    names = (TRACEPARENT, TRACESTATE)
    carrier = {name: headers[name] for name in names if isinstance(headers.get(name), str)}
    return _w3c.extract(carrier, context=Context())


def _injected(context: Context | None) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, context)
    return carrier


def _with_headers(message: Outgoing, carrier: dict[str, str]) -> Outgoing | None:
    """``None`` where there is no trace, or where the message would no longer fit an AMQP frame."""
    if not carrier:
        return None
    properties = copy.copy(message.properties)
    had = properties.headers or {}
    kept = {name: value for name, value in had.items() if name not in (TRACEPARENT, TRACESTATE)}
    properties.headers = kept | carrier
    traced = message._replace(properties=properties)
    if kept and traced.problem() is not None and message.problem() is None:
        return None
    return traced

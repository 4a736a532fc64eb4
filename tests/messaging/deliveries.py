"""Deliveries as a consumer gets them, made without a broker."""

from __future__ import annotations

from typing import Any

import pika

from attune_mq.message.delivery import Delivery
from attune_mq.message.envelope import Envelope, encode
from attune_mq.message.properties import amqp_properties
from attune_mq.payloads import ExecutionRequested

REQUEST = ExecutionRequested(execution_id=1, action_ref="core.echo")


def delivery(
    body: bytes | None = None,
    *,
    headers: dict[Any, Any] | None = None,
    redelivered: bool = False,
    exchange: str = "work",
    routing_key: str = "requested",
    queue: str = "work.queue",
    **properties: Any,
) -> Delivery:
    envelope = Envelope.of(REQUEST, message_id="m-1")
    written = amqp_properties(envelope)
    written.headers = headers
    for name, value in properties.items():
        setattr(written, name, value)
    return Delivery(
        body=encode(envelope) if body is None else body,
        properties=written,
        delivery_tag=1,
        redelivered=redelivered,
        exchange=exchange,
        routing_key=routing_key,
        queue=queue,
        consumer_tag="worker@1",
    )


def as_it_arrives(properties: pika.BasicProperties) -> dict[Any, Any]:
    """The headers, by way of the bytes that travel."""
    arrived = pika.BasicProperties()
    arrived.decode(b"".join(properties.encode()))
    return dict(arrived.headers or {})

"""A message on its way out, with its AMQP properties, and what became of it."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Final, NamedTuple, Protocol, Self

import pika
from pika import exceptions as pika_errors

from attune_mq.amqp.frames import HEADER_OVERHEAD_BYTES, content, publish_method
from attune_mq.errors import PublishError

PERSISTENT: Final = 2
CONTENT_TYPE: Final = "application/json"
MAX_FRAME_BYTES = 131_072
"""RabbitMQ's largest frame, unless it is configured (``frame_max``)."""
MAX_HEADER_BYTES = MAX_FRAME_BYTES - 64
"""What fits such a frame, less what the frame itself needs."""
UNENCODABLE = (
    pika_errors.AMQPError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What pika stumbles over where AMQP cannot carry a value. Not every ``Exception``: that of a time
limit which passes in this moment is the caller's."""


class Unsendable(ValueError):
    """AMQP cannot carry this message; nothing of it was sent."""

    @classmethod
    def because(cls, error: Exception) -> Self:
        return cls(f"it cannot be sent over AMQP: {type(error).__name__}: {error}")


class Outgoing(NamedTuple):
    """What is sent: broker names, a body and its properties. ``message_type`` is for messages to
    people only. ``mandatory``: it is an error when no queue takes it."""

    exchange: str
    routing_key: str
    body: bytes
    properties: pika.BasicProperties
    message_type: str = ""
    mandatory: bool = True

    @property
    def message_id(self) -> str | None:
        return self.properties.message_id

    def problem(self) -> str | None:
        """Why AMQP cannot carry these properties, if it cannot: ask before anything is sent.

        A header table beyond a frame is a 501 that ends the connection for everybody on it. A
        broker whose ``frame_max`` is smaller takes less: that is asked when it is sent.
        """
        try:
            self.encoded_properties(MAX_HEADER_BYTES)
        except Unsendable as error:
            return str(error)
        return None

    def encoded_properties(self, max_bytes: int) -> bytes:
        """Raises :class:`Unsendable`, see :meth:`problem`."""
        try:
            encoded = b"".join(self.properties.encode())
        except UNENCODABLE as error:
            raise Unsendable.because(error) from error
        if len(encoded) > max_bytes:
            raise Unsendable(
                f"its headers exceed {max_bytes:,} bytes, a frame of AMQP (the broker's frame_max)"
            )
        return encoded

    def frames(self, channel: int, frame_bytes: int) -> bytes:
        """``frame_bytes``: the largest frame agreed on. Raises :class:`Unsendable`."""
        most = min(MAX_HEADER_BYTES, frame_bytes - HEADER_OVERHEAD_BYTES)
        properties = self.encoded_properties(most)
        try:
            method = publish_method(
                channel, self.exchange, self.routing_key, mandatory=self.mandatory
            )
        except ValueError as error:
            raise Unsendable.because(error) from error
        return method + content(channel, properties, self.body, frame_bytes=frame_bytes)

    def __str__(self) -> str:
        what = self.message_type or "message"
        return (
            f"{what} {self.properties.message_id} to exchange '{self.exchange}' "
            f"with routing key '{self.routing_key}'"
        )


class Receipt(NamedTuple):
    """The broker has the message in every queue that it was routed to."""

    message_id: str
    exchange: str
    routing_key: str


Outcome = Receipt | PublishError


class Identified(Protocol):
    """An envelope, or a message of an outbox that repeats these parts of one."""

    @property
    def message_id(self) -> str: ...
    @property
    def correlation_id(self) -> str: ...
    @property
    def timestamp(self) -> datetime: ...


def amqp_properties(envelope: Identified) -> pika.BasicProperties:
    """The properties that *envelope* is published with: persistent JSON, its ids and its time.

    ``timestamp`` is in whole seconds since 1970, as AMQP has it; a time before that is left out,
    since the field has no sign. The message type stands in the body only.
    """
    seconds = int(envelope.timestamp.timestamp())
    return pika.BasicProperties(
        content_type=CONTENT_TYPE,
        delivery_mode=PERSISTENT,
        message_id=envelope.message_id,
        correlation_id=envelope.correlation_id,
        timestamp=seconds if seconds >= 0 else None,
    )

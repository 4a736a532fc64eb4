"""The AMQP properties of a message."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

import pika

PERSISTENT: Final = 2
CONTENT_TYPE: Final = "application/json"


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

"""Which message this thread is handling: what logs say of every line in the meantime.

One object a message; what it says is worked out by who asks. A thread that a handler starts knows
nothing of it, unless it runs in a copy of the context (:func:`contextvars.copy_context`).
"""

from __future__ import annotations

from contextvars import ContextVar

from attune_mq.message.delivery import Delivery
from attune_mq.message.envelope import Envelope

FIELDS = ("message_id", "correlation_id", "message_type", "consumer_tag", "queue", "attempt")


class Handling:
    """``envelope``: ``None`` until the body is read, and where it cannot be. Who reads it says so
    here."""

    __slots__ = ("delivery", "envelope")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.envelope: Envelope | None = None

    def fields(self) -> dict[str, str | int | None]:
        """By the names of :data:`FIELDS`. Ids and types are whatever the publisher sent."""
        delivery, envelope = self.delivery, self.envelope
        ids = delivery.ids() if envelope is None else envelope
        return {
            "message_id": ids.message_id,
            "correlation_id": ids.correlation_id,
            "message_type": None if envelope is None else envelope.message_type,
            "consumer_tag": delivery.consumer_tag,
            "queue": delivery.queue,
            "attempt": delivery.failures + 1,
        }


current: ContextVar[Handling | None] = ContextVar("attune_mq_handling", default=None)


def current_fields() -> dict[str, str | int | None]:
    """Of the message that is being handled here; empty where none is."""
    handling = current.get()
    return {} if handling is None else handling.fields()

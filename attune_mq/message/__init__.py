"""Messages as values: payloads, envelopes, deliveries, and what is observed of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.message.delivery import *
    from attune_mq.message.envelope import *
    from attune_mq.message.fields import *
    from attune_mq.message.masking import *
    from attune_mq.message.outgoing import *
    from attune_mq.message.payload import *
    from attune_mq.message.stream_positions import *
    from attune_mq.message.telemetry import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(
        __name__,
        "fields payload outgoing telemetry stream_positions masking envelope delivery",
    )

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_HOLD_S",
    "MAX_PAYLOAD_DEPTH",
    "NOT_BEFORE",
    "Delivery",
    "Dropped",
    "Envelope",
    "Id",
    "JsonData",
    "Message",
    "MessageHeaders",
    "Outgoing",
    "Payload",
    "PositionStore",
    "Receipt",
    "Requeued",
    "Secret",
    "Settled",
    "StreamDelivery",
    "StreamPosition",
    "Telemetries",
    "Telemetry",
    "Text",
    "Timestamp",
    "amqp_properties",
    "decode",
    "decode_payload",
    "encode",
    "shown_body",
]

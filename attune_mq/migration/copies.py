"""The copy of a message that is moved, and how to recognise that it was moved already. Pure.

A copy keeps body, routing key and properties, except ``user_id``, which the broker would check
against ours, and a quorum queue's own counts, which restart. The exchange that it was published
to cannot be kept: consumers see one of the migration's. ``x-attune-exchange`` names the first one,
as on the copies that consumers republish, unless ``x-death`` does.

In the staging queue a message must neither expire nor be lost with a broker restart. So its
``expiration`` is saved in a header, and restarts in the new queue; so is its delivery mode.

Each copy says in ``x-attune-migrated`` by which batch it came and which message it is of, so that
duplicates are recognised; see :mod:`.mover`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from attune_mq.message.delivery import BROKERS_COUNTS, Delivery
from attune_mq.message.outgoing import Outgoing
from attune_mq.message.republishing import ORIGIN_EXCHANGE, ORIGIN_ROUTING_KEY

MIGRATED = "x-attune-migrated"
EXPIRATION = "x-attune-expiration"
DELIVERY_MODE = "x-attune-delivery-mode"
PERSISTENT: Literal[2] = 2

Headers = dict[Any, Any]


class Mark(NamedTuple):
    """The value of :data:`MIGRATED`."""

    batch: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.batch} {self.fingerprint}"


def mark_of(headers: Mapping[Any, Any]) -> Mark | None:
    batch, _, fingerprint = str(headers.get(MIGRATED, "")).partition(" ")
    return Mark(batch, fingerprint) if fingerprint else None


def fingerprint(delivery: Delivery) -> str:
    """Equal for equal messages of one queue. Messages that were moved before are never equal."""
    digest = hashlib.blake2b(delivery.body, digest_size=16)
    properties = {**vars(delivery.properties), "headers": _headers(delivery)}
    parts = (delivery.queue, delivery.exchange, delivery.routing_key, _stable(properties))
    digest.update(repr(parts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def to_staging(delivery: Delivery, batch: str, exchange: str) -> Outgoing:
    """The copy that waits in the staging queue until the new queue is declared."""
    copied, headers = _copy(delivery, batch, exchange)
    properties = copied.properties
    if properties.expiration is not None:
        headers[EXPIRATION] = properties.expiration
    if properties.delivery_mode != PERSISTENT:
        headers[DELIVERY_MODE] = properties.delivery_mode
    properties.expiration = None
    properties.delivery_mode = PERSISTENT
    return copied


def from_staging(delivery: Delivery, batch: str, exchange: str) -> Outgoing:
    """The copy for the new queue, of a message from the staging or the parking queue."""
    copied, headers = _copy(delivery, batch, exchange)
    properties = copied.properties
    properties.expiration = headers.pop(EXPIRATION, properties.expiration)
    properties.delivery_mode = headers.pop(DELIVERY_MODE, properties.delivery_mode)
    return copied


def _copy(delivery: Delivery, batch: str, exchange: str) -> tuple[Outgoing, Headers]:
    """With its own headers, which name batch, message and first exchange."""
    headers = _headers(delivery)
    if not delivery.deaths and ORIGIN_EXCHANGE not in headers:
        headers[ORIGIN_EXCHANGE] = delivery.exchange
        headers[ORIGIN_ROUTING_KEY] = delivery.routing_key
    headers[MIGRATED] = str(Mark(batch, fingerprint(delivery)))
    properties = copy.copy(delivery.properties)
    properties.headers = headers
    properties.user_id = None
    return Outgoing(exchange, delivery.routing_key, delivery.body, properties), headers


def _headers(delivery: Delivery) -> Headers:
    return {name: value for name, value in delivery.headers.items() if name not in BROKERS_COUNTS}


def _stable(value: Any) -> Any:
    """The same where RabbitMQ delivers a table in another order, or an integer of another width."""
    if isinstance(value, dict):
        return sorted((repr(key), _stable(item)) for key, item in value.items())
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return int(value) if isinstance(value, int) else value

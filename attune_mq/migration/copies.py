"""The copy of a message that is moved, and how to know that it was moved already. Pure.

A copy keeps body, routing key and properties. Left out are ``user_id``, which the broker would
check against ours, and a quorum queue's own counts, which begin anew. The exchange that it was
published to cannot be kept: consumers see one of the migration's. ``x-attune-exchange`` names the
first one, as on the copies that consumers publish, unless ``x-death`` does.

While it waits between the queues it must not expire, nor go with a broker that ends: so its
``expiration`` is put aside, and begins anew in the new queue, and so is that it is transient.

Each copy says in ``x-attune-migrated`` by which batch it came and which message it is of, so that
what is there twice can be told; :mod:`.moving` says how.
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
    """What :data:`MIGRATED` says."""

    batch: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.batch} {self.fingerprint}"


def mark_of(headers: Mapping[Any, Any]) -> Mark | None:
    batch, _, fingerprint = str(headers.get(MIGRATED, "")).partition(" ")
    return Mark(batch, fingerprint) if fingerprint else None


def fingerprint(delivery: Delivery) -> str:
    """Equal messages of one queue have one. Those that were moved before never are equal."""
    digest = hashlib.blake2b(delivery.body, digest_size=16)
    properties = {**vars(delivery.properties), "headers": _headers(delivery)}
    parts = (delivery.queue, delivery.exchange, delivery.routing_key, _stable(properties))
    digest.update(repr(parts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def set_aside(delivery: Delivery, batch: str, exchange: str) -> Outgoing:
    """The copy that waits until the new queue is there."""
    headers = _with_origin(delivery)
    expiration = delivery.properties.expiration
    if expiration is not None:
        headers[EXPIRATION] = expiration
    mode = delivery.properties.delivery_mode
    if mode != PERSISTENT:
        headers[DELIVERY_MODE] = mode
    copied = _copy(delivery, batch, exchange, headers, expiration=None)
    copied.properties.delivery_mode = PERSISTENT
    return copied


def put_back(delivery: Delivery, batch: str, exchange: str) -> Outgoing:
    """The copy for the new queue, of one that was set aside, or parked."""
    headers = _with_origin(delivery)
    expiration = headers.pop(EXPIRATION, delivery.properties.expiration)
    mode = headers.pop(DELIVERY_MODE, delivery.properties.delivery_mode)
    copied = _copy(delivery, batch, exchange, headers, expiration=expiration)
    copied.properties.delivery_mode = mode
    return copied


def _copy(
    delivery: Delivery, batch: str, exchange: str, headers: Headers, *, expiration: str | None
) -> Outgoing:
    headers[MIGRATED] = str(Mark(batch, fingerprint(delivery)))
    properties = copy.copy(delivery.properties)
    properties.headers = headers
    properties.user_id = None
    properties.expiration = expiration
    return Outgoing(exchange, delivery.routing_key, delivery.body, properties)


def _with_origin(delivery: Delivery) -> Headers:
    headers = _headers(delivery)
    if not delivery.deaths and ORIGIN_EXCHANGE not in headers:
        headers[ORIGIN_EXCHANGE] = delivery.exchange
        headers[ORIGIN_ROUTING_KEY] = delivery.routing_key
    return headers


def _headers(delivery: Delivery) -> Headers:
    headers: Headers = dict(delivery.headers)
    for name in BROKERS_COUNTS:
        headers.pop(name, None)
    return headers


def _stable(value: Any) -> Any:
    """The same for what RabbitMQ hands out in another order, or as an integer of another width."""
    if isinstance(value, dict):
        return sorted((repr(key), _stable(item)) for key, item in value.items())
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return int(value) if isinstance(value, int) else value

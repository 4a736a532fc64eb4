"""What a dead letter says of itself, written by any program, read leniently.

This library's consumers write ``x-attune-*`` headers on what they give up. The broker writes
``x-death`` and ``x-first-death-*``. Another program may have written either, both or neither, so
nothing is trusted to be there or to be of its type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from attune_mq.message.deaths import Death
from attune_mq.message.delivery import BROKERS_COUNTS, FAILURES, QUEUE, REASON, Delivery
from attune_mq.message.republishing import ORIGIN_EXCHANGE, ORIGIN_ROUTING_KEY

_OF_ITS_DEATHS = ("x-attune-", "x-death", "x-first-death-", "x-last-death-")
_OF_THE_BROKER = (*BROKERS_COUNTS, "CC", "BCC")


class Origin(NamedTuple):
    """Where a message was first published, in the broker's names."""

    exchange: str
    routing_key: str


@dataclass(frozen=True)
class DeadLetter:
    """One message of a dead letter queue. ``None``: it does not say.

    ``message_id`` and ``message_type``: by the envelope in its body, else by its AMQP properties.
    ``reason``: as this library's consumer wrote it (``attempts exhausted``, ``rejected``, …), else
    the broker's (``rejected``, ``expired``, ``maxlen``, ``delivery_limit``).
    ``error``: type and text of what a handler raised.
    ``attempts``: how often it was tried; by the broker's word, how often it was rejected.
    ``queue``: where it died. ``origin``: where it was published first.
    ``body``: as it came, which may hold secrets; ``repr`` does not show it.
    """

    message_id: str | None
    message_type: str | None
    reason: str | None
    error: str | None
    attempts: int | None
    died_at: datetime | None
    queue: str | None
    origin: Origin | None
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, delivery: Delivery) -> DeadLetter:
        headers, properties = delivery.headers, delivery.properties
        envelope = _json_object(delivery.body)
        newest = delivery.deaths[0] if delivery.deaths else None
        return cls(
            message_id=_text(envelope, "message_id") or _string(properties.message_id),
            message_type=_text(envelope, "message_type") or _string(properties.type),
            reason=_text(headers, REASON)
            or (newest.reason if newest else _text(headers, "x-first-death-reason")),
            error=_error(headers),
            attempts=_attempts(delivery),
            died_at=_time(headers) or (newest.time if newest else None),
            queue=_text(headers, QUEUE)
            or (newest.queue if newest else _text(headers, "x-first-death-queue")),
            origin=_origin(delivery),
            body=delivery.body,
        )


def headers_without_deaths(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """What is left of a dead letter's headers when it is to count afresh. ``CC`` and ``BCC`` are
    left out too: they would send copies to others once more."""
    return {
        name: value
        for name, value in headers.items()
        if name not in _OF_THE_BROKER and not str(name).startswith(_OF_ITS_DEATHS)
    }


def _error(headers: Mapping[Any, Any]) -> str | None:
    parts = (_text(headers, "x-attune-error-type"), _text(headers, "x-attune-error-message"))
    return ": ".join(part for part in parts if part) or None


def _attempts(delivery: Delivery) -> int | None:
    written = delivery.headers.get(FAILURES)
    if isinstance(written, int) and not isinstance(written, bool) and written >= 0:
        return int(written)
    tried = ("rejected", "delivery_limit")
    return sum(death.count for death in delivery.deaths if death.reason in tried) or None


def _origin(delivery: Delivery) -> Origin | None:
    headers = delivery.headers
    exchange, routing_key = headers.get(ORIGIN_EXCHANGE), headers.get(ORIGIN_ROUTING_KEY)
    if isinstance(exchange, str) and isinstance(routing_key, str):
        return Origin(exchange, routing_key)
    death = _first_death(delivery)
    return Origin(death.exchange, death.routing_keys[0]) if death else None


def _first_death(delivery: Delivery) -> Death | None:
    """The oldest entry of ``x-death`` is the last one, but up to RabbitMQ 3.12 a repeated death
    moves its entry to the front; ``x-first-death-*`` then tells which one was the first."""
    deaths = [death for death in delivery.deaths if death.routing_keys]
    first = (
        _text(delivery.headers, "x-first-death-queue"),
        _text(delivery.headers, "x-first-death-reason"),
    )
    named = [death for death in deaths if (death.queue, death.reason) == first]
    return next(iter(named or deaths[-1:]), None)


def _time(headers: Mapping[Any, Any]) -> datetime | None:
    written = _text(headers, "x-attune-died-at")
    try:
        time = datetime.fromisoformat(written) if written else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[Any, Any], name: str) -> str | None:
    return _string(values.get(name))


def _string(value: object) -> str | None:
    """pika returns text that is no UTF-8 as bytes; such a one and ``""`` say nothing."""
    return value if isinstance(value, str) and value else None

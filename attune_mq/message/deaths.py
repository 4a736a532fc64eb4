"""What the broker writes on a message that died in a queue: ``x-death``, read leniently.

Source: https://www.rabbitmq.com/docs/dlx#effects. Any program can write such a header, so nothing
in it is trusted: what is not of the expected type is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_DEATHS = 100


@dataclass(frozen=True)
class Death:
    """``reason`` is ``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``; ``count`` is how
    often it died so in ``queue``; ``exchange`` and ``routing_keys`` brought it there."""

    queue: str
    reason: str
    count: int
    exchange: str
    routing_keys: tuple[str, ...]
    time: datetime | None


def deaths_of(headers: Mapping[str, Any] | None) -> tuple[Death, ...]:
    """The deaths of a message, newest first."""
    entries = (headers or {}).get("x-death")
    if not isinstance(entries, list):
        return ()
    read = (_death(entry) for entry in entries[:MAX_DEATHS])
    return tuple(death for death in read if death is not None)


def _death(entry: object) -> Death | None:
    if not isinstance(entry, Mapping):
        return None
    queue, reason, count = entry.get("queue"), entry.get("reason"), entry.get("count")
    if not isinstance(queue, str) or not isinstance(reason, str):
        return None
    keys, exchange, time = entry.get("routing-keys"), entry.get("exchange"), entry.get("time")
    return Death(
        queue=queue,
        reason=reason,
        count=count if isinstance(count, int) and count > 0 else 1,
        exchange=exchange if isinstance(exchange, str) else "",
        routing_keys=tuple(key for key in keys if isinstance(key, str))
        if isinstance(keys, list)
        else (),
        time=time if isinstance(time, datetime) else None,
    )

"""Where a consumer of a stream begins: ``first``, ``last``, ``next``, ``stored``, the number of a
message, or a moment.

Source: https://www.rabbitmq.com/docs/streams#consuming. ``stored`` is the library's own: AMQP 0-9-1
keeps no offsets at the broker.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

STORED = "stored"
NEXT = "next"
_WORDS = ("first", "last", NEXT, STORED)
MAX_OFFSET = 2**63 - 1
"""AMQP sends the number as a signed integer of 64 bits."""
_EXPECTED = (
    "first, last, next, stored, the number of a message from 0 on, "
    'or a moment with its zone such as "2026-09-03T12:00:00Z"'
)


def _offset(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OFFSET:
        return value
    if isinstance(value, str) and (value in _WORDS or _moment(value) is not None):
        return value
    raise PydanticCustomError("expected", "{expected}", {"expected": _EXPECTED})


def _moment(text: str) -> datetime | None:
    """``None`` for what is no moment from 1970 on, or does not name its zone."""
    try:
        moment = datetime.fromisoformat(text)
        since_epoch_s = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if moment.utcoffset() is not None and since_epoch_s >= 0 else None


def stream_offset_argument(offset: int | str) -> int | str | datetime:
    """The value of ``x-stream-offset``, of the type that the broker tells these apart by: a long
    is a number, a timestamp a moment, in whole seconds, a longstr one of the words.

    ``stored`` is not for the broker. A moment begins with the chunk that it falls into, so that
    messages which were published shortly before it are delivered as well.
    """
    moment = _moment(offset) if isinstance(offset, str) else None
    return offset if moment is None else moment.astimezone(UTC).replace(microsecond=0)


StreamOffset = Annotated[
    int | str,
    PlainValidator(_offset),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(_WORDS)},
                {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET},
                {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}|\$\{"},
            ]
        }
    ),
]

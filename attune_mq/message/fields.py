"""The kinds of field that payloads and envelopes have on the wire.

They are as strict as the services that are written in Rust: ``"12"``, ``12.0`` and ``true`` are no
:data:`Id`, ``1`` is no :data:`Flag`. What may be lenient is said where it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    FailFast,
    Field,
    PlainSerializer,
    SecretStr,
)
from pydantic_core import PydanticCustomError

MAX_PAYLOAD_DEPTH: Final = 126
"""How many objects and arrays of a payload may lie within each other, itself included.

With the envelope around it that is 127, the most that ``serde_json`` reads.
"""

_SIMPLE: Final = frozenset({str, int, bool, type(None)})
"""Always JSON, and most of what there is in a message."""

T = TypeVar("T")

_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_EXPECTED_TIMESTAMP: Final = "a time with its offset, such as 2026-09-03T12:34:56.789Z"


def expected(what: str, *, found: str | None = None) -> PydanticCustomError:
    """The error for a validator to raise: its words complete "expected ..., found ...".

    They end up in logs: no values in them. Without *found*, the JSON type of the value is named.
    """
    context = {"what": what} if found is None else {"what": what, "found": found}
    return PydanticCustomError("expected", "expected {what}", context)


def _timestamp(value: object) -> datetime:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:
            raise expected(_EXPECTED_TIMESTAMP) from None
    if not isinstance(value, datetime):
        raise expected(_EXPECTED_TIMESTAMP)
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        raise expected(_EXPECTED_TIMESTAMP)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise expected("a time in the years 1 to 9999 of UTC") from None


def check_json(value: T) -> T:
    """Returns *value* if JSON can hold it: finite, text as keys, not too deep (so no cycle)."""
    _check(value, MAX_PAYLOAD_DEPTH)
    return value


def _check(value: object, levels: int) -> None:
    """Of a value that may have so many levels."""
    if isinstance(value, dict):
        _check_levels(levels)
        for key, inner in value.items():
            if type(key) is not str:
                _check_key(key)
            if type(inner) not in _SIMPLE:
                _check(inner, levels - 1)
    elif isinstance(value, list):
        _check_levels(levels)
        for inner in value:
            if type(inner) not in _SIMPLE:
                _check(inner, levels - 1)
    else:
        _check_scalar(value)


def _check_levels(levels: int) -> None:
    if not levels:
        raise expected(f"JSON at most {MAX_PAYLOAD_DEPTH} levels deep", found="more")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise expected("JSON, whose keys are strings", found=f"a key of type {type(key).__name__}")


def _check_scalar(item: object) -> None:
    if isinstance(item, float):
        if not isfinite(item):
            raise expected("JSON with numbers that a double can hold", found="another number")
    elif item is not None and not isinstance(item, (str, int)):
        raise expected("JSON", found=f"a value of type {type(item).__name__}")


Id = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
"""A signed 64-bit integer."""

Text = Annotated[str, Field(strict=True)]
"""A string, and nothing that could be made one."""

Texts = Annotated[tuple[Text, ...], FailFast()]
"""An array of strings. A list is taken for it, a tuple kept."""

Flag = Annotated[bool, Field(strict=True)]
"""``true`` or ``false``."""

Label = Annotated[str, Field(strict=True, pattern=r"^[\x20-\x7e]{1,255}$")]
"""1 to 255 printable ASCII characters: fit for an AMQP property, a header and a log line."""

TraceId = Annotated[
    str,
    Field(
        strict=True,
        pattern=r"^([0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$",
    ),
]
"""A UUID as text, with or without hyphens; kept as it is written."""

Timestamp = Annotated[datetime, BeforeValidator(_timestamp)]
"""A point in time: RFC 3339 on the wire, an aware :class:`~datetime.datetime` in UTC in code.

Any offset is read and made UTC; digits beyond microseconds are cut off, not rounded. A time
without an offset is refused, because it is no point in time. Written with ``Z``.
"""

JsonData = Annotated[Any, AfterValidator(check_json)]
"""Any JSON value: a ``dict`` with string keys, a ``list``, text, a number, a ``bool`` or ``None``.

Refused are infinities and NaN (also ``1e999``, which would become one), other types, and what is
nested more than :data:`MAX_PAYLOAD_DEPTH` levels deep. The value is not copied: leave it alone.
"""

JsonObject = Annotated[Mapping[str, Any], AfterValidator(check_json)]
"""A JSON object, with the limits of :data:`JsonData`. Its outermost level is copied."""

Secret = Annotated[
    SecretStr, PlainSerializer(SecretStr.get_secret_value, return_type=str, when_used="json")
]
"""Text that ``repr`` and ``str`` show as ``**********``; only the wire sees it in clear."""

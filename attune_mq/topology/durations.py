"""Durations as people write them: ``250ms``, ``30s``, ``5m``, ``24h``, ``7d``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_WRITTEN = re.compile(r"(0|[1-9][0-9]*)(ms|s|m|h|d)")
MAX_DURATION_MS = 315_360_000_000
"""Ten years: the longest TTL that RabbitMQ takes."""


def parse_duration_ms(text: str) -> int:
    """``"24h"`` as milliseconds. Raises ``ValueError`` for anything but a number and a unit."""
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ValueError("a duration such as 250ms, 30s, 5m, 24h or 7d")
    duration_ms = int(written[1]) * _UNITS_MS[written[2]]
    if duration_ms > MAX_DURATION_MS:
        raise ValueError("a duration of ten years (3650d) at most")
    return duration_ms


def format_duration(duration_ms: int) -> str:
    """Milliseconds in the largest unit that loses nothing: ``86400000`` is ``24h``."""
    for unit in ("h", "m", "s"):
        if duration_ms and duration_ms % _UNITS_MS[unit] == 0:
            return f"{duration_ms // _UNITS_MS[unit]}{unit}"
    return f"{duration_ms}ms"


FROM_FILE = "from a file"
"""Validation context in which a number without a unit is not taken for milliseconds."""


def _read(value: Any, info: ValidationInfo) -> int:
    expected = "a duration such as 250ms, 30s, 5m, 24h or 7d"
    if isinstance(value, int) and not isinstance(value, bool) and info.context != FROM_FILE:
        return value
    if isinstance(value, str):
        try:
            return parse_duration_ms(value)
        except ValueError as error:
            expected = str(error)
    raise PydanticCustomError("expected", "{expected}", {"expected": expected})


DurationMs = Annotated[
    int,
    BeforeValidator(_read),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(0|[1-9][0-9]*)(ms|s|m|h|d)$|\$\{",
            "examples": ["30s", "24h"],
        }
    ),
]
"""Milliseconds in code, a duration such as ``24h`` in the file."""

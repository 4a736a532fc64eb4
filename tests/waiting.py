"""Waiting for what nobody announces."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_S = 60.0
"""A deadline against hanging, not a claim about speed."""
POLL_S = 0.02


def wait_until(holds: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Return once ``holds()`` is true; fail with ``what`` when it is not within the deadline."""
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, f"waited {deadline_s:g} s in vain until {what}"
        time.sleep(POLL_S)

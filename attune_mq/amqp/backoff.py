"""Pauses between attempts: growing, and jittered so that many do not come at once."""

from __future__ import annotations

from attune_mq.amqp.runtime import SYSTEM, Runtime

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0


class Backoff:
    """Pauses from 0.1 to 0.2 s at first, doubled each time up to 10 s, each drawn from the upper
    half of its range."""

    def __init__(
        self,
        first_s: float = FIRST_PAUSE_S,
        longest_s: float = LONGEST_PAUSE_S,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._runtime = runtime
        self._first_s = first_s
        self._longest_s = longest_s
        self._range_s = first_s

    def next_s(self) -> float:
        pause_s = self._runtime.uniform(self._range_s / 2, self._range_s)
        self._range_s = min(self._range_s * 2, self._longest_s)
        return pause_s

    def reset(self) -> None:
        self._range_s = self._first_s

"""Which checks are red, and since when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from attune_mq.health.checks import Check


@dataclass(frozen=True)
class Trouble:
    """A red check: why, and since when by the wall clock."""

    check: str
    why: str
    since: datetime


@dataclass(frozen=True)
class Warned:
    """What may be wrong, by the word of a check that is green."""

    check: str
    why: str


@dataclass(frozen=True)
class Picture:
    """All checks at one moment; ``troubles`` and ``warnings`` in their order."""

    checks: tuple[str, ...]
    troubles: tuple[Trouble, ...]
    warnings: tuple[Warned, ...] = ()

    @property
    def is_good(self) -> bool:
        return not self.troubles

    def __str__(self) -> str:
        if self.is_good:
            return "ready"
        return "; ".join(f"{one.check}: {one.why}" for one in self.troubles)


class Memory:
    """Looks at all checks, and remembers since when each is red. Safe from any thread."""

    def __init__(self, checks: Callable[[], Sequence[Check]]) -> None:
        self._checks = checks
        self._lock = threading.Lock()
        self._red_since_s: dict[str, float] = {}

    def look(self) -> Picture:
        checks = self._checks()
        found = [(check.name, check.trouble()) for check in checks]
        now_s, now = time.monotonic(), datetime.now(UTC)
        with self._lock:
            red = {name: self._red_since_s.get(name, now_s) for name, why in found if why}
            self._red_since_s = red
        return Picture(
            tuple(check.name for check in checks),
            tuple(
                Trouble(name, why, now - timedelta(seconds=now_s - red[name]))
                for name, why in found
                if why
            ),
            tuple(
                Warned(check.name, why)
                for check in checks
                if check.name not in red and (why := check.warning())
            ),
        )

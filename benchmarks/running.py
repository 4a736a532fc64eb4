"""What every section is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attune_mq.broker import EmbeddedBroker


@dataclass(frozen=True)
class Run:
    """``scale``: of the usual amounts; 0.01 is enough to see that all of it works. ``first``: a
    checkout of the version that the executor is measured against, if there is one."""

    node: EmbeddedBroker
    folder: Path
    repeats: int = 3
    scale: float = 1.0
    first: Path | None = None

    def amount(self, usual: int, *, at_least: int = 20) -> int:
        return max(at_least, int(usual * self.scale))

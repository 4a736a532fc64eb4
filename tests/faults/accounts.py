"""What was lost, and what was doubled. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Account:
    """``expected``: the numbers that are to have one effect each. ``given_up``: those that are to
    be dead letters, with a reason, and to have none. ``dead``: the reasons of dead letters."""

    of: str
    expected: frozenset[int]
    given_up: frozenset[int]
    effects: Counter[int]
    dead: dict[int, str] = field(default_factory=dict)

    @property
    def lost(self) -> list[int]:
        """Neither an effect nor a dead letter."""
        return sorted((self.expected | self.given_up) - self.effects.keys() - self.dead.keys())

    @property
    def doubled(self) -> list[int]:
        """More than one effect, or an effect and a dead letter."""
        twice = {number for number, count in self.effects.items() if count > 1}
        return sorted(twice | (self.effects.keys() & self.dead.keys()))

    @property
    def unasked(self) -> list[int]:
        """Effects of what was never confirmed, dead letters of what should have had its effect,
        and the other way round."""
        return sorted((self.effects.keys() - self.expected) | (self.dead.keys() - self.given_up))

    @property
    def unexplained(self) -> list[int]:
        """Dead letters without a reason."""
        return sorted(number for number, reason in self.dead.items() if not reason)

    def problems(self) -> list[str]:
        kinds = ("lost", "doubled", "unasked", "unexplained")
        return [
            f"{self.of}: {kind}: {some(numbers)}"
            for kind in kinds
            if (numbers := getattr(self, kind))
        ]


def some(numbers: Collection[int]) -> str:
    few = ", ".join(str(number) for number in list(numbers)[:10])
    return few if len(numbers) <= 10 else f"{few} and {len(numbers) - 10} more"

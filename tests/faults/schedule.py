"""Which fault comes when: made by a seed, so that it can be had again. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST_PAUSE_S = 3.0
SHORTEST_FAULT_S, LONGEST_FAULT_S = 0.3, 4.0


@dataclass(frozen=True)
class Planned:
    """A fault of this kind, ``after_s`` seconds after the one before is over, for ``lasts_s``.

    ``dice`` is the seed of what else it chooses: which process, after how many bytes.
    ``waits``: whether the next one waits until messages have their effects again.
    """

    kind: str
    after_s: float
    lasts_s: float
    dice: int
    waits: bool


def schedule(seed: int | str, kinds: Sequence[str]) -> Iterator[Planned]:
    """Without end. Each kind comes once before any comes again, in another order every time."""
    rng = random.Random(seed)
    while True:
        for kind in rng.sample(kinds, len(kinds)):
            yield Planned(
                kind,
                after_s=round(rng.uniform(0.0, LONGEST_PAUSE_S), 2),
                lasts_s=round(rng.uniform(SHORTEST_FAULT_S, LONGEST_FAULT_S), 2),
                dice=rng.getrandbits(32),
                waits=rng.random() < 0.7,
            )

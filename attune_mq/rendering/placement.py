"""Heights: each item as near to its neighbours as the others of its column let it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from attune_mq.rendering.layers import Item

SWEEPS = 5
GAPS = {"node": 13.0, "chip": 9.0, "bend": 7.0}

Columns = Sequence[Sequence[Item]]


def place(columns: Columns, top: float) -> float:
    """Set ``y`` of all items, none above ``top``, and return the lowest bottom.

    Neighbours that are not in ``columns`` stay where they are, and draw the items to them.
    """
    for column in columns:
        y = top
        for item in column:
            item.y = y
            y += item.height + GAPS[item.shape]
    for _ in range(SWEEPS):
        for column in columns:
            _settle(column, _before, top)
        for column in reversed(columns):
            _settle(column, _after, top)
    for column in columns:
        _settle(column, _around, top)
    _raise_to(columns, top)
    return max((item.bottom for column in columns for item in column), default=top)


def _before(item: Item) -> Sequence[Item]:
    return item.before


def _after(item: Item) -> Sequence[Item]:
    return item.after


def _around(item: Item) -> Sequence[Item]:
    return [*item.before, *item.after]


def _raise_to(columns: Columns, top: float) -> None:
    highest = min((item.y for column in columns for item in column), default=top)
    for column in columns:
        for item in column:
            item.y += top - highest


def _settle(
    column: Sequence[Item], neighbours: Callable[[Item], Sequence[Item]], top: float
) -> None:
    """Move the items to the mean height of their neighbours, keeping order and distances."""
    offsets = _offsets(column)
    wanted = []
    for item, offset in zip(column, offsets, strict=True):
        middles = [each.middle for each in neighbours(item)]
        middle = sum(middles) / len(middles) if middles else item.middle
        wanted.append(middle - item.height / 2 - offset)
    weights = [1.0 + 2.0 * len(neighbours(item)) for item in column]
    for item, y, offset in zip(column, _rising(wanted, weights), offsets, strict=True):
        item.y = max(top, y) + offset


def _offsets(column: Sequence[Item]) -> list[float]:
    """How far below the first each item must be at least."""
    offsets = [0.0]
    for upper, lower in pairwise(column):
        gap = max(GAPS[upper.shape], GAPS[lower.shape])
        offsets.append(offsets[-1] + upper.height + gap)
    return offsets[: len(column)]


def _rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest numbers (least squares) none of which is less than the one before it.

    Pool adjacent violators: https://en.wikipedia.org/wiki/Isotonic_regression
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        count = 1
        while pools and pools[-1][0] > value:
            other, other_weight, other_count = pools.pop()
            value = (value * weight + other * other_weight) / (weight + other_weight)
            weight += other_weight
            count += other_count
        pools.append((value, weight, count))
    return [value for value, _, count in pools for _ in range(count)]

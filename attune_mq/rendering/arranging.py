"""The order of items in their columns, such that few lines cross, and then their heights."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from itertools import pairwise

from attune_mq.rendering.layers import Item

ORDER_SWEEPS = 12
LARGE = 2_000
"""From so many items on, two sweeps have to do."""
HEIGHT_SWEEPS = 5
GAPS = {"node": 13.0, "chip": 9.0, "bend": 7.0}

Columns = Sequence[list[Item]]


def order(columns: Columns, parts: Sequence[str]) -> None:
    """Reorders each column. Items of an earlier part stay above those of a later one."""
    rank = {part: number for number, part in enumerate(parts)}
    for column in columns:
        column.sort(key=lambda item: rank[item.part])
    best = [list(column) for column in columns]
    fewest = _crossings(columns)
    for sweep in range(ORDER_SWEEPS if sum(map(len, columns)) < LARGE else 2):
        to_the_right = sweep % 2 == 0
        for column in columns if to_the_right else reversed(columns):
            _sort(column, rank, columns, to_the_right)
        crossings = _crossings(columns)
        if crossings < fewest:
            fewest, best = crossings, [list(column) for column in columns]
        if not fewest:
            break
    for column, ordered in zip(columns, best, strict=True):
        column[:] = ordered


def _sort(column: list[Item], rank: dict[str, int], columns: Columns, to_the_right: bool) -> None:
    """By the mean place of the neighbours on one side. An item without any keeps its place."""
    wanted = {}
    for place, item in enumerate(column):
        neighbours = item.before if to_the_right else item.after
        places = [each.y / max(1, len(columns[each.column])) for each in neighbours]
        wanted[item] = sum(places) / len(places) if places else place / max(1, len(column))
    column.sort(key=lambda item: (rank[item.part], wanted[item]))
    _number(column)


def _number(column: Sequence[Item]) -> None:
    for place, item in enumerate(column):
        item.y = float(place)


def _crossings(columns: Columns) -> int:
    """Pairs of lines between neighbouring columns that cross."""
    for column in columns:
        _number(column)
    return sum(_crossings_after(column) for column in columns)


def _crossings_after(column: Sequence[Item]) -> int:
    crossings = 0
    seen: list[float] = []
    for item in column:
        ends = sorted(each.y for each in item.after)
        crossings += sum(len(seen) - bisect_left(seen, end + 0.5) for end in ends)
        for end in ends:
            insort(seen, end)
    return crossings


def place(columns: Columns, top: float) -> float:
    """Sets ``y`` of all items, none above ``top``, and returns the lowest bottom.

    Neighbours that are not in ``columns`` stay where they are, and attract the items.
    """
    for column in columns:
        for item, offset in zip(column, _offsets(column), strict=True):
            item.y = top + offset
    for _ in range(HEIGHT_SWEEPS):
        for column in columns:
            _settle(column, lambda item: item.before, top)
        for column in reversed(columns):
            _settle(column, lambda item: item.after, top)
    for column in columns:
        _settle(column, lambda item: [*item.before, *item.after], top)
    items = [item for column in columns for item in column]
    highest = min((item.y for item in items), default=top)
    for item in items:
        item.y += top - highest
    return max((item.bottom for item in items), default=top)


def _settle(
    column: Sequence[Item], neighbours: Callable[[Item], Sequence[Item]], top: float
) -> None:
    """Moves the items to the mean height of their neighbours, keeping order and distances."""
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

"""The order of items in their columns, such that few lines cross."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from attune_mq.rendering.layers import Item

SWEEPS = 12
LARGE = 2_000
"""From so many items on a few sweeps must do."""

Columns = Sequence[list[Item]]


def order(columns: Columns, parts: Sequence[str]) -> None:
    """Reorder each column. Items of an earlier part stay above those of a later one."""
    rank = {part: number for number, part in enumerate(parts)}
    for column in columns:
        column.sort(key=lambda item: rank[item.part])
    best = [list(column) for column in columns]
    fewest = _crossings(columns)
    items = sum(map(len, columns))
    for sweep in range(SWEEPS if items < LARGE else 2):
        to_the_right = sweep % 2 == 0
        for column in columns if to_the_right else list(reversed(columns)):
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
        places = [_place(each, columns) for each in neighbours]
        wanted[item] = sum(places) / len(places) if places else place / max(1, len(column))
    column.sort(key=lambda item: (rank[item.part], wanted[item]))
    for place, item in enumerate(column):
        item.y = float(place)


def _place(item: Item, columns: Columns) -> float:
    return item.y / max(1, len(columns[item.column]))


def _crossings(columns: Columns) -> int:
    """Pairs of lines between neighbouring columns that cross."""
    for column in columns:
        for place, item in enumerate(column):
            item.y = float(place)
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

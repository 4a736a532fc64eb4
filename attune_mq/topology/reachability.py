"""What can be reached in a graph, step by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def grouped(pairs: Iterable[tuple[K, T]]) -> defaultdict[K, list[T]]:
    """All that each first of a pair goes with, such as the ends of the edges from a node."""
    groups: defaultdict[K, list[T]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def reachable(start: Iterable[T], following: Callable[[T], Iterable[T]]) -> list[T]:
    """``start`` and all that ``following`` leads to from there, each once, depth first."""
    reached: dict[T, None] = {}
    waiting = [*start][::-1]
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached[node] = None
            waiting += [*following(node)][::-1]
    return list(reached)

"""What can be reached in a graph, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


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

"""Cycles of a directed graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


def cycles(edges: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """The sets of nodes that lead to each other, each in the order in which one was come to from
    another; a node that leads to itself alone is one. Tarjan's algorithm, without recursion."""
    search = _Search(edges)
    for node in edges:
        if node not in search.found:
            search.visit(node)
    return search.cycles


class _Search:
    def __init__(self, edges: Mapping[str, Sequence[str]]) -> None:
        self.edges = edges
        self.found: dict[str, int] = {}
        self.lowest: dict[str, int] = {}
        self.open: dict[str, None] = {}
        self.cycles: list[tuple[str, ...]] = []

    def visit(self, root: str) -> None:
        path = [(root, self._enter(root))]
        while path:
            node, following = path[-1]
            step = next(following, None)
            if step is None:
                path.pop()
                self._leave(node)
                if path:
                    self._lower(path[-1][0], self.lowest[node])
            elif step not in self.found:
                path.append((step, self._enter(step)))
            elif step in self.open:
                self._lower(node, self.found[step])

    def _enter(self, node: str) -> Iterator[str]:
        self.found[node] = self.lowest[node] = len(self.found)
        self.open[node] = None
        return iter(self.edges.get(node, ()))

    def _lower(self, node: str, index: int) -> None:
        self.lowest[node] = min(self.lowest[node], index)

    def _leave(self, node: str) -> None:
        if self.lowest[node] != self.found[node]:
            return
        members: list[str] = []
        while not members or members[-1] != node:
            members.append(self.open.popitem()[0])
        if len(members) > 1 or node in self.edges.get(node, ()):
            self.cycles.append(tuple(reversed(members)))

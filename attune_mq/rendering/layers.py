"""Nodes in columns, from those that speak to those that listen, and what stands between them.

The classical way of drawing layered graphs (Sugiyama, Tagawa, Toda 1981): every edge goes from
column to column. The labels of an edge are an item of a column of their own, so that no label can
lie on another or on a line; where an edge passes a column without stopping, it has a bend there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from attune_mq.rendering.picture import Edge, EdgeKind, Node, NodeKind


@dataclass(eq=False)
class Item:
    """Something that has a place in a column. ``x`` and ``y`` are its upper left corner."""

    shape: Literal["node", "chip", "bend"]
    column: int
    part: str
    node: Node | None = None
    edge: Edge | None = None
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0
    y: float = 0.0
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass
class Strand:
    """An edge with the items that it goes through, its source first."""

    edge: Edge
    items: list[Item]


@dataclass
class Layered:
    """Columns of items; nodes stand in the even ones."""

    columns: list[list[Item]]
    items: dict[str, Item]
    """The nodes, by their id."""
    strands: list[Strand] = field(default_factory=list)
    """Edges that lead to the right, to their target."""
    ways: list[Strand] = field(default_factory=list)
    """Edges that go round: their source, and their labels if they have some."""


def layer(nodes: Sequence[Node], edges: Sequence[Edge]) -> Layered:
    """``nodes`` in columns. ``edges`` whose source is not among them are left out; those that
    cannot lead to the right are among the ways."""
    layers = _layers(nodes, edges)
    items = {node.id: Item("node", 2 * layers[node.id], node.part, node=node) for node in nodes}
    width = 2 * max(layers.values(), default=0) + 1
    columns: list[list[Item]] = [[] for _ in range(width)]
    for item in items.values():
        columns[item.column].append(item)
    layered = Layered(columns, items)
    for edge in edges:
        if edge.source not in items:
            continue
        target = items.get(edge.target)
        leads_on = target is not None and items[edge.source].column < target.column
        if edge.kind.is_way_back or not leads_on or target is None:
            _start_way(layered, edge)
        else:
            _connect(layered, edge, items[edge.source], target)
    for column in layered.columns:
        if all(item.shape == "bend" for item in column):
            _straighten(layered, column)
    return layered


def _layers(nodes: Iterable[Node], edges: Iterable[Edge]) -> Mapping[str, int]:
    """The number of the layer of each node. Exchanges stand as far right as they can: those that
    lead to queues side by side. Layers without nodes are left out."""
    by_id = {node.id: node for node in nodes}
    kinds = {kind: number for number, kind in enumerate(NodeKind)}
    distance = _distances_to_queues(by_id, edges)
    place = {node.id: (kinds[node.kind], -distance.get(node.id, 0)) for node in by_id.values()}
    numbers = {each: number for number, each in enumerate(sorted(set(place.values())))}
    return {node_id: numbers[each] for node_id, each in place.items()}


def _distances_to_queues(nodes: Mapping[str, Node], edges: Iterable[Edge]) -> dict[str, int]:
    """How many exchanges follow each exchange at most. A cycle is cut where it is first closed."""
    exchanges = {key for key, node in nodes.items() if node.kind is NodeKind.EXCHANGE}
    following: dict[str, list[str]] = {key: [] for key in exchanges}
    for edge in edges:
        if edge.source in exchanges and edge.target in exchanges and not edge.kind.is_way_back:
            following[edge.source].append(edge.target)
    distances: dict[str, int] = {}
    for start in nodes:
        if start in exchanges:
            _measure(start, following, distances)
    return distances


def _measure(start: str, following: Mapping[str, Sequence[str]], distances: dict[str, int]) -> None:
    """Depth first, without recursion: a chain of exchanges may be long."""
    open_nodes: set[str] = set()
    stack = [(start, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            known = [distances[each] for each in following[node] if each in distances]
            distances[node] = 1 + max(known, default=-1)
            open_nodes.discard(node)
        elif node not in distances and node not in open_nodes:
            open_nodes.add(node)
            stack.append((node, True))
            stack += [(each, False) for each in following[node] if each not in open_nodes]


def _connect(layered: Layered, edge: Edge, source: Item, target: Item) -> None:
    """Chip and bends between two nodes. What is published is told where it starts, a key where
    the binding ends."""
    passed = range(source.column + 1, target.column)
    labelled = passed[0] if edge.kind is EdgeKind.PUBLISH else passed[-1]
    strand = Strand(edge, [source])
    for column in passed:
        shape: Literal["chip", "bend"] = "chip" if edge.labels and column == labelled else "bend"
        item = Item(shape, column, target.part, edge=edge)
        layered.columns[column].append(item)
        strand.items.append(item)
    strand.items.append(target)
    for left, right in pairwise(strand.items):
        left.after.append(right)
        right.before.append(left)
    layered.strands.append(strand)


def _straighten(layered: Layered, column: list[Item]) -> None:
    """Take bends away that have nothing to go round."""
    for bend in column:
        (left,), (right,) = bend.before, bend.after
        left.after[left.after.index(bend)] = right
        right.before[right.before.index(bend)] = left
    removed = set(column)
    for strand in layered.strands:
        strand.items = [item for item in strand.items if item not in removed]
    column.clear()


def _start_way(layered: Layered, edge: Edge) -> None:
    """An edge that goes round: it starts at its node, or at its labels, if it has some."""
    source = layered.items[edge.source]
    strand = Strand(edge, [source])
    layered.ways.append(strand)
    if edge.labels and not edge.kind.is_way_back:
        while len(layered.columns) <= source.column + 1:
            layered.columns.append([])
        chip = Item("chip", source.column + 1, source.part, edge=edge)
        layered.columns[chip.column].append(chip)
        source.after.append(chip)
        chip.before.append(source)
        strand.items.append(chip)

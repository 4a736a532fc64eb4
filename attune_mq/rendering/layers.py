"""Nodes in columns, from publishers to consumers, with the labels and bends of edges between them.

Layered graph drawing after Sugiyama, Tagawa and Toda (1981): every edge leads from column to
column. The labels of an edge are an item of a column of their own, so that no label can lie on
another or on a line; where an edge passes a column without stopping, it has a bend there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from attune_mq.rendering.diagram import Edge, EdgeKind, Node, NodeKind

Shape = Literal["node", "chip", "bend"]


@dataclass(eq=False)
class Item:
    """Something that has a place in a column. ``x`` and ``y`` are its upper left corner."""

    shape: Shape
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
    def kind(self) -> NodeKind | None:
        return self.node.kind if self.node else None

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
    """An edge with the items that it passes, its source first."""

    edge: Edge
    items: list[Item]


LANE = 7.0
"""Between two lanes, and between two rows."""
STUB = 14.0
"""From a node to the first lane beside it."""


@dataclass
class Lanes:
    """Vertical lanes beside a column, one for each target."""

    numbers: dict[str, int] = field(default_factory=dict)
    first: int = 0

    def lane(self, target: str) -> int:
        return self.numbers.setdefault(target, self.first + len(self.numbers))

    @property
    def room(self) -> float:
        return STUB + max(self.numbers.values()) * LANE + 8.0 if self.numbers else 0.0


@dataclass
class Panel:
    """Columns of items; nodes stand in the even ones."""

    parts: Sequence[str]
    """In their order from top to bottom."""
    columns: list[list[Item]]
    nodes: dict[str, Item]
    strands: list[Strand] = field(default_factory=list)
    """Edges that lead to the right, to their target."""
    detours: list[Strand] = field(default_factory=list)
    """Edges that lead back or to the other panel: their source, and their labels if any."""
    left: defaultdict[int, Lanes] = field(default_factory=lambda: defaultdict(Lanes))
    right: defaultdict[int, Lanes] = field(default_factory=lambda: defaultdict(Lanes))
    """The lanes beside each column."""
    top: float = 0.0
    bottom: float = 0.0
    part_tops: dict[str, float] = field(default_factory=dict)
    part_bottoms: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[float, float]] = field(default_factory=list)
    """From where to where each column reaches, its lanes included."""

    @property
    def items(self) -> Iterator[Item]:
        return (item for column in self.columns for item in column)

    def shift(self, x: float) -> None:
        self.spans = [(left + x, right + x) for left, right in self.spans]
        for item in self.items:
            item.x += x

    def of_kind(self, kind: NodeKind) -> list[Item]:
        return [item for item in self.items if item.kind is kind]


def layer(nodes: Sequence[Node], edges: Iterable[Edge], parts: Sequence[str]) -> Panel:
    """``nodes`` in columns. ``edges`` whose source is not among them are left out; those that
    cannot lead to the right are detours."""
    layers = _layers(nodes, edges)
    items = {node.id: Item("node", 2 * layers[node.id], node.part, node=node) for node in nodes}
    columns: list[list[Item]] = [[] for _ in range(2 * max(layers.values(), default=0) + 1)]
    for item in items.values():
        columns[item.column].append(item)
    panel = Panel(parts, columns, items)
    for edge in edges:
        source, target = items.get(edge.source), items.get(edge.target)
        if source is None:
            continue
        if target is None or edge.kind.may_lead_back or source.column >= target.column:
            _start_detour(panel, edge, source)
        else:
            _connect(panel, edge, source, target)
    for column in columns:
        if all(item.shape == "bend" for item in column):
            _straighten(panel, column)
    return panel


def _layers(nodes: Iterable[Node], edges: Iterable[Edge]) -> Mapping[str, int]:
    """The number of the layer of each node. Exchanges stand as far right as they can: those that
    lead to queues side by side. Layers without nodes are left out."""
    kinds = list(NodeKind)
    exchanges = [node.id for node in nodes if node.kind is NodeKind.EXCHANGE]
    distance = _distances_to_queues(exchanges, edges)
    place = {node.id: (kinds.index(node.kind), -distance.get(node.id, 0)) for node in nodes}
    numbers = {each: number for number, each in enumerate(sorted(set(place.values())))}
    return {node_id: numbers[each] for node_id, each in place.items()}


def _distances_to_queues(exchanges: Sequence[str], edges: Iterable[Edge]) -> dict[str, int]:
    """How many exchanges follow each exchange at most. A cycle is cut where it is first closed."""
    following: dict[str, list[str]] = {key: [] for key in exchanges}
    for edge in edges:
        if edge.source in following and edge.target in following and not edge.kind.may_lead_back:
            following[edge.source].append(edge.target)
    distances: dict[str, int] = {}
    for start in exchanges:
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


def _connect(panel: Panel, edge: Edge, source: Item, target: Item) -> None:
    """Chip and bends between two nodes. The label of what is published stands where the edge
    starts, the key of a binding where it ends."""
    passed = range(source.column + 1, target.column)
    labelled = passed[0] if edge.kind is EdgeKind.PUBLISH else passed[-1]
    between = []
    for column in passed:
        shape: Shape = "chip" if edge.labels and column == labelled else "bend"
        between.append(Item(shape, column, target.part, edge=edge))
        panel.columns[column].append(between[-1])
    strand = Strand(edge, [source, *between, target])
    for left, right in pairwise(strand.items):
        left.after.append(right)
        right.before.append(left)
    panel.strands.append(strand)


def _straighten(panel: Panel, column: list[Item]) -> None:
    """Removes the bends of a column that has nothing else."""
    for bend in column:
        (left,), (right,) = bend.before, bend.after
        left.after[left.after.index(bend)] = right
        right.before[right.before.index(bend)] = left
    removed = set(column)
    for strand in panel.strands:
        strand.items = [item for item in strand.items if item not in removed]
    column.clear()


def _start_detour(panel: Panel, edge: Edge, source: Item) -> None:
    """A detour starts at its node, or at its labels, if it has some."""
    strand = Strand(edge, [source])
    panel.detours.append(strand)
    if edge.labels and not edge.kind.may_lead_back:
        while len(panel.columns) <= source.column + 1:
            panel.columns.append([])
        chip = Item("chip", source.column + 1, source.part, edge=edge)
        panel.columns[chip.column].append(chip)
        source.after.append(chip)
        chip.before.append(source)
        strand.items.append(chip)

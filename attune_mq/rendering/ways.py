"""Ways round: of dead letters, retries, and bindings that lead back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from attune_mq.rendering.layers import Item, Layered, Strand
from attune_mq.rendering.picture import Edge, EdgeKind, NodeKind

LANE = 7.0
"""Between two lanes, and between two rows."""
STUB = 14.0
"""From a node to the first lane beside it."""

Point = tuple[float, float]


class Way(NamedTuple):
    edge: Edge
    points: tuple[Point, ...]
    """Corners of a line of horizontal and vertical pieces."""
    labels: Item | None
    """The chip from which it starts, if it has labels."""


@dataclass
class _Zone:
    """Lanes beside a column, one for each target."""

    lanes: dict[str, int] = field(default_factory=dict)
    first: int = 0
    edge: float = 0.0
    """The side of the column's boxes from which lanes are counted."""

    def lane(self, target: str) -> int:
        return self.lanes.setdefault(target, self.first + len(self.lanes))

    @property
    def room(self) -> float:
        return STUB + max(self.lanes.values()) * LANE + 8.0 if self.lanes else 0.0


class Ways:
    """All ways of a picture, between and within its panels. Those to the same target are one
    way from where they meet."""

    def __init__(self, main: Layered, dead: Layered) -> None:
        self._panels = (main, dead)
        self._rows: dict[str, int] = {}
        self._beside_queues = _Zone()
        self._right: dict[tuple[int, int], _Zone] = {}
        self._left: dict[tuple[int, int], _Zone] = {}
        self._strands = [
            (panel, strand)
            for panel in self._panels
            for strand in panel.ways
            if self._target(strand.edge) is not None
        ]
        self._upwards = 0
        for panel, strand in sorted(self._strands, key=self._rank):
            self._reserve(panel, strand)

    def _rank(self, panel_and_strand: tuple[Layered, Strand]) -> int:
        """So that few ways cross, those that lead up again have the upper rows and the nearer
        lanes, and those from queue to queue the farthest lanes."""
        _, strand = panel_and_strand
        if self._is_direct(strand):
            return 2
        return self._panels.index(self._panel_of(strand.edge.target))

    def _reserve(self, panel: Layered, strand: Strand) -> None:
        edge = strand.edge
        self._source_zone(panel, strand).lane(edge.target)
        if not self._is_direct(strand):
            self._rows.setdefault(edge.target, len(self._rows))
            zone = self._target_zone(edge)
            if self._panel_of(edge.target) is self._panels[0]:
                self._upwards = max(self._upwards, zone.lane(edge.target) + 1)
            else:  # below, no lane continues one of above
                zone.first = self._upwards
                zone.lane(edge.target)

    @property
    def channel_height(self) -> float:
        """Of the rows between the panels."""
        return len(self._rows) * LANE

    def room_right_of(self, panel: Layered, column: int) -> float:
        if _is_queues(panel, column):
            return self._beside_queues.room
        return self._right.get((id(panel), column), _Zone()).room

    def room_left_of(self, panel: Layered, column: int) -> float:
        return self._left.get((id(panel), column), _Zone()).room

    def set_edges_of_queues(self, *columns: int | None) -> None:
        """Once the columns have their places: where the lanes beside the queues begin."""
        rights = [
            item.right
            for panel, column in zip(self._panels, columns, strict=True)
            if column is not None
            for item in panel.columns[column]
        ]
        self._beside_queues.edge = max(rights, default=0.0)

    def routed(self, channel: float) -> list[Way]:
        """All ways, with the rows of the channel from the height ``channel`` on."""
        return [self._routed(panel, strand, channel) for panel, strand in self._strands]

    def _routed(self, panel: Layered, strand: Strand, channel: float) -> Way:
        edge, start = strand.edge, strand.items[-1]
        target = self._target(edge)
        assert target is not None
        zone = self._source_zone(panel, strand)
        side = zone.edge or max(item.right for item in panel.columns[start.column])
        x = side + STUB + zone.lane(edge.target) * LANE
        y = start.middle if start.shape == "chip" else _leaving(start, edge)
        labels = start if start.shape == "chip" else None
        if self._is_direct(strand):
            end = _entering(target)
            return Way(edge, ((start.right, y), (x, y), (x, end), (target.right, end)), labels)
        row = channel + self._rows[edge.target] * LANE
        entry = target.x - STUB - self._target_zone(edge).lane(edge.target) * LANE
        end = target.middle if not target.before else target.bottom - 9.0
        corners = ((start.right, y), (x, y), (x, row), (entry, row), (entry, end), (target.x, end))
        return Way(edge, corners, labels)

    def _target(self, edge: Edge) -> Item | None:
        return next((p.items[edge.target] for p in self._panels if edge.target in p.items), None)

    def _panel_of(self, node: str) -> Layered:
        return next(panel for panel in self._panels if node in panel.items)

    def _is_direct(self, strand: Strand) -> bool:
        """From queue to queue, by the lanes beside the queues alone."""
        source, target = strand.items[0], self._target(strand.edge)
        return strand.edge.kind.is_way_back and all(
            item is not None and item.node is not None and item.node.kind is NodeKind.QUEUE
            for item in (source, target)
        )

    def _source_zone(self, panel: Layered, strand: Strand) -> _Zone:
        column = strand.items[-1].column
        if _is_queues(panel, column):
            return self._beside_queues
        return self._right.setdefault((id(panel), column), _Zone())

    def _target_zone(self, edge: Edge) -> _Zone:
        panel = self._panel_of(edge.target)
        column = panel.items[edge.target].column
        return self._left.setdefault((id(panel), column), _Zone())


def _is_queues(panel: Layered, column: int) -> bool:
    return any(
        item.node is not None and item.node.kind is NodeKind.QUEUE for item in panel.columns[column]
    )


def _leaving(item: Item, edge: Edge) -> float:
    return item.bottom - (16.0 if edge.kind is EdgeKind.RETRY else 9.0)


def _entering(item: Item) -> float:
    return item.y + 9.0

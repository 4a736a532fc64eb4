"""Detours: the polylines of dead letters, retries, and bindings that lead back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attune_mq.rendering.diagram import Edge, EdgeKind, NodeKind
from attune_mq.rendering.layers import LANE, STUB, Item, Lanes, Panel, Strand

Point = tuple[float, float]


class Polyline(NamedTuple):
    edge: Edge
    points: tuple[Point, ...]
    """Corners of a line of horizontal and vertical pieces."""


@dataclass
class _Detour:
    edge: Edge
    start: Item
    """Its source, or the chip with its labels."""
    panel: Panel
    target: Item
    target_panel: Panel
    is_direct: bool
    """From queue to queue, by the lanes beside the queues alone."""


class Detours:
    """All detours of a diagram, between and within its panels. Those to the same target share one
    line from where they meet."""

    def __init__(self, main: Panel, dead: Panel) -> None:
        self._rows: dict[str, int] = {}
        self._main = main
        beside_queues = Lanes()
        home = {node: panel for panel in (main, dead) for node in panel.nodes}
        for panel in (main, dead):
            for queue in panel.of_kind(NodeKind.QUEUE):
                panel.right[queue.column] = beside_queues
        self._detours = [
            _detour(strand, panel, target_panel)
            for panel in (main, dead)
            for strand in panel.detours
            if (target_panel := home.get(strand.edge.target)) is not None
        ]
        upwards = 0
        for detour in sorted(self._detours, key=self._rank):
            target = detour.edge.target
            detour.panel.right[detour.start.column].lane(target)
            if not detour.is_direct:
                self._rows.setdefault(target, len(self._rows))
                lanes = detour.target_panel.left[detour.target.column]
                if detour.target_panel is main:
                    upwards = max(upwards, lanes.lane(target) + 1)
                else:  # below, no lane continues one of above
                    lanes.first = upwards
                    lanes.lane(target)

    def _rank(self, detour: _Detour) -> int:
        """So that few detours cross, those that lead up again have the upper rows and the nearer
        lanes, and those from queue to queue the farthest lanes."""
        if detour.is_direct:
            return 2
        return 0 if detour.target_panel is self._main else 1

    @property
    def channel_height(self) -> float:
        """Of the rows between the panels."""
        return len(self._rows) * LANE

    def polylines(self, channel: float) -> list[Polyline]:
        """All detours, with the rows of the channel from the height ``channel`` on. Items need
        their places before."""
        return [Polyline(one.edge, self._corners(one, channel)) for one in self._detours]

    def _corners(self, detour: _Detour, channel: float) -> tuple[Point, ...]:
        edge, start, target = detour.edge, detour.start, detour.target
        lanes = detour.panel.right[start.column]
        side = max(item.right for item in detour.panel.columns[start.column])
        x = side + STUB + lanes.lane(edge.target) * LANE
        y = start.bottom - (16.0 if edge.kind is EdgeKind.RETRY else 9.0)
        if start.shape == "chip":
            y = start.middle
        if detour.is_direct:
            end = target.y + 9.0
            return (start.right, y), (x, y), (x, end), (target.right, end)
        row = channel + self._rows[edge.target] * LANE
        lane = detour.target_panel.left[target.column].lane(edge.target)
        entry = target.x - STUB - lane * LANE
        end = target.middle if not target.before else target.bottom - 9.0
        return (start.right, y), (x, y), (x, row), (entry, row), (entry, end), (target.x, end)


def _detour(strand: Strand, panel: Panel, target_panel: Panel) -> _Detour:
    target = target_panel.nodes[strand.edge.target]
    joins_queues = strand.items[0].kind is NodeKind.QUEUE and target.kind is NodeKind.QUEUE
    is_direct = strand.edge.kind.may_lead_back and joins_queues
    return _Detour(strand.edge, strand.items[-1], panel, target, target_panel, is_direct)

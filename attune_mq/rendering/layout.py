"""Where everything of a picture stands.

Two panels, one above the other: what messages go through, and below it what only dead letters
reach. In each panel columns, see :mod:`.layers`. Dead letters go round: out of a queue on its
right, down a lane, along a row between the panels, and into their target from the left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from attune_mq.rendering.boxes import measure
from attune_mq.rendering.layers import Item, Layered, layer
from attune_mq.rendering.ordering import order
from attune_mq.rendering.picture import DEAD, MAIN, NodeKind, Picture
from attune_mq.rendering.placement import place
from attune_mq.rendering.ways import Way, Ways

MARGIN = 24.0
HEADING = 34.0
"""Above the columns: what stands in them."""
FRAME_TITLE = 26.0
WIDTH_OF_NOTES = 640.0
"""Least width of a picture with findings below it."""
PART_GAP = 30.0
ZONE = 26.0
"""Between a node and the labels beside it: room for lines to find their height."""
NARROW_ZONE = 16.0
"""The same where there are no labels."""


@dataclass
class Panel:
    layered: Layered
    parts: Sequence[str]
    top: float = 0.0
    bottom: float = 0.0
    part_tops: dict[str, float] = field(default_factory=dict)
    part_bottoms: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[float, float]] = field(default_factory=list)
    """From where to where each column reaches, its lanes included."""

    @property
    def items(self) -> Iterator[Item]:
        return (item for column in self.layered.columns for item in column)

    def column_of(self, kind: NodeKind) -> int | None:
        """The last column with nodes of a kind."""
        columns = (each.column for each in self.items if each.node and each.node.kind is kind)
        return max(columns, default=None)

    @property
    def right(self) -> float:
        return max((item.right for item in self.items), default=0.0)


@dataclass
class Layout:
    picture: Picture
    main: Panel
    dead: Panel
    ways: list[Way]
    width: float
    height: float


def lay_out(picture: Picture) -> Layout:
    main = _panel(picture, [MAIN, *picture.families])
    dead = _panel(picture, [DEAD])
    _level_queues(main, dead)
    ways = Ways(main.layered, dead.layered)
    bottom = _place(main, MARGIN + HEADING)
    channel = bottom + 16.0
    bottom = channel + ways.channel_height
    if dead.layered.items:
        dead.top = bottom + 12.0
        bottom = dead.bottom = _place(dead, dead.top + HEADING + 8.0) + 14.0
    _set_columns(main, dead, ways)
    routed = ways.routed(channel)
    rightmost = [main.right, dead.right, *(x for way in routed for x, _ in way.points)]
    width = max(max(rightmost) + MARGIN + 10.0, WIDTH_OF_NOTES if picture.notes else 0.0)
    return Layout(picture, main, dead, routed, width, bottom + MARGIN)


def _panel(picture: Picture, parts: Sequence[str]) -> Panel:
    nodes = [node for node in picture.nodes.values() if node.part in parts]
    layered = layer(nodes, picture.edges)
    for column in layered.columns:
        for item in column:
            measure(item)
        widest = max((item.width for item in column), default=0.0)
        for item in column:
            if item.shape == "node":
                item.width = widest
    order(layered.columns, parts)
    return Panel(layered, parts)


def _level_queues(*panels: Panel) -> None:
    """The queues of both panels are equally wide, so that the same lanes serve them."""
    queues = [
        item
        for panel in panels
        for item in panel.items
        if item.node is not None and item.node.kind is NodeKind.QUEUE
    ]
    widest = max((queue.width for queue in queues), default=0.0)
    for queue in queues:
        queue.width = widest


def _place(panel: Panel, top: float) -> float:
    """Set the heights of all items, part by part, and return the bottom of the panel."""
    bottom = top
    for part in panel.parts:
        columns = [
            [item for item in column if item.part == part] for column in panel.layered.columns
        ]
        if not any(columns):
            continue
        is_framed = part not in (MAIN, DEAD)
        if is_framed:
            bottom += PART_GAP if panel.part_tops else 0.0
        panel.part_tops[part] = bottom
        bottom = place(columns, bottom + (FRAME_TITLE if is_framed else 0.0))
        bottom += 10.0 if is_framed else 0.0
        panel.part_bottoms[part] = bottom
    return bottom


def _set_columns(main: Panel, dead: Panel, ways: Ways) -> None:
    """Set ``x`` of all items. The queues of both panels stand below each other, so that the lanes
    at their right are the same."""
    starts = {id(panel): _column_starts(panel, ways) for panel in (main, dead)}
    queues = {
        id(panel): starts[id(panel)][column]
        for panel in (main, dead)
        if (column := panel.column_of(NodeKind.QUEUE)) is not None
    }
    furthest = max(queues.values(), default=0.0)
    for panel in (main, dead):
        shift = MARGIN + 10.0 + furthest - queues.get(id(panel), furthest)
        for number, start in enumerate(starts[id(panel)]):
            _set_column(panel, number, start + shift, ways)
    ways.set_edges_of_queues(main.column_of(NodeKind.QUEUE), dead.column_of(NodeKind.QUEUE))


def _set_column(panel: Panel, number: int, left: float, ways: Ways) -> None:
    items = panel.layered.columns[number]
    if not items:
        panel.spans.append((left, left))
        return
    width = max(item.width for item in items)
    for item in items:
        item.x = left + (width - item.width) / 2
    right = left + width + ways.room_right_of(panel.layered, number)
    panel.spans.append((left - ways.room_left_of(panel.layered, number), right))


def _column_starts(panel: Panel, ways: Ways) -> list[float]:
    columns = panel.layered.columns
    starts = []
    x = 0.0
    for number, column in enumerate(columns):
        if not column:
            starts.append(x)
            continue
        x += ways.room_left_of(panel.layered, number)
        starts.append(x)
        width = max(item.width for item in column)
        x += width + ways.room_right_of(panel.layered, number)
        labelled = any(
            item.shape == "chip" for each in columns[number : number + 2] for item in each
        )
        x += (ZONE if labelled else NARROW_ZONE) + min(30.0, _steepest(column) / 14.0)
    return starts


def _steepest(column: Sequence[Item]) -> float:
    """The largest difference in height that a line has to overcome after this column."""
    spans = (abs(item.middle - each.middle) for item in column for each in item.after)
    return max(spans, default=0.0)

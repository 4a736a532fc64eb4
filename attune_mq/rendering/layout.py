"""The place of everything in a diagram.

Two panels, one above the other: what messages pass, and below it what only dead letters reach. In
each panel columns, see :mod:`.layers`. Dead letters take a detour: out of a queue on its right,
down a lane, along a row between the panels, and into their target from the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from attune_mq.rendering.arranging import order, place
from attune_mq.rendering.detours import Detours, Polyline
from attune_mq.rendering.diagram import DEAD, MAIN, Diagram, NodeKind
from attune_mq.rendering.layers import Item, Panel, layer
from attune_mq.rendering.text import chip_lines, mono_width, node_lines, text_height

MARGIN = 24.0
HEADING = 34.0
"""Above the columns: their titles."""
FRAME_TITLE = 26.0
WIDTH_OF_NOTES = 640.0
"""Least width of a diagram with findings below it."""
PART_GAP = 30.0
ZONE = 26.0
"""Between a node and the labels beside it: room for lines to find their height."""
NARROW_ZONE = 16.0
"""The same where there are no labels."""
PADDING = 12.0
LEAST_HEIGHT = 44.0
"""That of a node with one detail, so that rows of nodes agree."""
QUEUE_GLYPH = 18.0
"""Room at the right end of a queue for the bars that mark it as one."""
CHIP_LINE = 15.0


@dataclass
class Layout:
    diagram: Diagram
    main: Panel
    dead: Panel
    detours: list[Polyline]
    width: float
    height: float


def lay_out(diagram: Diagram) -> Layout:
    main = _panel(diagram, [part for part in diagram.part_titles if part != DEAD])
    dead = _panel(diagram, [DEAD])
    # The queues of both panels are equally wide, so that the same lanes serve them.
    _widen([*main.of_kind(NodeKind.QUEUE), *dead.of_kind(NodeKind.QUEUE)])
    detours = Detours(main, dead)
    bottom = _set_heights(main, MARGIN + HEADING)
    channel = bottom + 16.0
    bottom = channel + detours.channel_height
    if dead.nodes:
        dead.top = bottom + 12.0
        bottom = dead.bottom = _set_heights(dead, dead.top + HEADING + 8.0) + 14.0
    _set_columns(main, dead)
    polylines = detours.polylines(channel)
    boxes = (item.right for panel in (main, dead) for item in panel.items)
    lines = (x for line in polylines for x, _ in line.points)
    right = max(chain(boxes, lines), default=0.0)
    width = max(right + MARGIN + 10.0, WIDTH_OF_NOTES if diagram.findings else 0.0)
    return Layout(diagram, main, dead, polylines, width, bottom + MARGIN)


def _panel(diagram: Diagram, parts: Sequence[str]) -> Panel:
    nodes = [node for node in diagram.nodes.values() if node.part in parts]
    panel = layer(nodes, diagram.edges, parts)
    for column in panel.columns:
        for item in column:
            _measure(item)
        _widen([item for item in column if item.shape == "node"])
    order(panel.columns, parts)
    return panel


def _measure(item: Item) -> None:
    if item.node is not None:
        lines = node_lines(item.node)
        glyph = QUEUE_GLYPH if item.kind is NodeKind.QUEUE else 0.0
        item.width = max(line.width for line in lines) + 2 * PADDING + glyph
        item.height = max(LEAST_HEIGHT, text_height(lines) + 11.0)
    elif item.edge is not None and item.shape == "chip":
        texts = chip_lines(item.edge)
        item.width = max(mono_width(text, 11.0) for text in texts) + 18.0
        item.height = len(texts) * CHIP_LINE + 8.0
    else:
        item.width, item.height = 0.0, 8.0


def _widen(items: Sequence[Item]) -> None:
    """Makes all as wide as the widest."""
    widest = max((item.width for item in items), default=0.0)
    for item in items:
        item.width = widest


def _set_heights(panel: Panel, top: float) -> float:
    """Sets ``y`` of all items, part by part, and returns the bottom of the panel."""
    bottom = top
    for part in panel.parts:
        columns = [[item for item in column if item.part == part] for column in panel.columns]
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


def _set_columns(main: Panel, dead: Panel) -> None:
    """Sets ``x`` of all items. The queues of both panels stand below each other, so that the lanes
    at their right are the same."""
    for panel in (main, dead):
        _set_columns_of(panel)
    starts = [[queue.x for queue in panel.of_kind(NodeKind.QUEUE)] for panel in (main, dead)]
    furthest = max(chain(*starts), default=0.0)
    for panel, start in zip((main, dead), starts, strict=True):
        panel.shift(MARGIN + 10.0 + furthest - (start[0] if start else furthest))


def _set_columns_of(panel: Panel) -> None:
    x = 0.0
    for number, column in enumerate(panel.columns):
        if not column:
            panel.spans.append((x, x))
            continue
        x += panel.left[number].room
        width = max(item.width for item in column)
        for item in column:
            item.x = x + (width - item.width) / 2
        right = x + width + panel.right[number].room
        panel.spans.append((x - panel.left[number].room, right))
        shown = panel.columns[number : number + 2]
        is_labelled = any(item.shape == "chip" for each in shown for item in each)
        x = right + (ZONE if is_labelled else NARROW_ZONE) + min(30.0, _steepest(column) / 14.0)


def _steepest(column: Sequence[Item]) -> float:
    """The largest difference in height that a line has to overcome after this column."""
    spans = (abs(item.middle - each.middle) for item in column for each in item.after)
    return max(spans, default=0.0)

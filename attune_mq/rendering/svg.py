"""A picture as SVG: one file, with its colours for light and dark in it, and no font but the
reader's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from attune_mq.rendering.boxes import (
    CHIP_LINE,
    PADDING,
    chip_lines,
    node_lines,
    text_height,
)
from attune_mq.rendering.colours import style_sheet
from attune_mq.rendering.composing import compose
from attune_mq.rendering.layers import Item, Strand
from attune_mq.rendering.layout import (
    FRAME_TITLE,
    MARGIN,
    Layout,
    Panel,
    lay_out,
)
from attune_mq.rendering.legend import STYLES, badge, legend
from attune_mq.rendering.marks import Finding
from attune_mq.rendering.picture import DEAD, MAIN, Edge, EdgeKind, Node, NodeKind
from attune_mq.rendering.shapes import (
    Point,
    along,
    attribute,
    bars,
    curve,
    line,
    number,
    rounded,
    text,
    tip,
    titled,
)
from attune_mq.rendering.text import sans_width
from attune_mq.rendering.ways import Way
from attune_mq.topology.model import Topology

_STYLE_OF_LINE = {
    "service": "service",
    "name": "mono name",
    "tag": "mono",
    "detail": "detail",
    "warning": "about-dead",
}
_RADII = {
    NodeKind.SERVICE: 15.0,
    NodeKind.EXCHANGE: 10.0,
    NodeKind.QUEUE: 3.0,
    NodeKind.CONSUMER: 9.0,
}
_BOXES = {
    NodeKind.SERVICE: "service",
    NodeKind.EXCHANGE: "exchange",
    NodeKind.QUEUE: "queue",
    NodeKind.CONSUMER: "consumer",
}


def to_svg(topology: Topology, findings: Sequence[Finding] = ()) -> str:
    """The topology as an SVG document, with the findings about it marked and told below.

    What is left to the library is drawn, too. Long lists of keys are cut short, long names lose
    their middle; both are whole in the tooltips. The picture has a ground of its own and follows
    the reader's preference for light or dark.
    """
    layout = lay_out(compose(topology, findings))
    drawing = _Drawing(layout)
    below = legend(layout.picture, MARGIN, layout.width - MARGIN, layout.height - 8.0)
    width, height = number(layout.width), number(below.bottom + MARGIN - 6.0)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            f"aria-label={attribute(layout.picture.summary)}>",
            f"<style>\n{style_sheet()}\n</style>",
            f'<rect width="{width}" height="{height}" rx="8" class="ground"/>',
            *drawing.shapes(),
            *below.shapes,
            "</svg>\n",
        ]
    )


class _Drawing:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._severities = {note.number: note.severity for note in layout.picture.notes}

    def shapes(self) -> Iterator[str]:
        """From what lies below to what lies above."""
        panels = (self._layout.main, self._layout.dead)
        yield from self._ground()
        for panel in panels:
            for strand in panel.layered.strands:
                yield from self._strand(panel, strand)
            for strand in panel.layered.ways:
                yield from self._stub(panel, strand)
        for each in self._layout.ways:
            yield from self._way(each)
        for panel in panels:
            for item in panel.items:
                yield from self._chip(item) if item.shape == "chip" else self._node(item)

    def _ground(self) -> Iterator[str]:
        """The panel of dead letters, the frames of families, and what stands in the columns."""
        dead, main = self._layout.dead, self._layout.main
        if dead.layered.items:
            width = self._layout.width - MARGIN
            yield rounded(
                MARGIN / 2, dead.top, width, dead.bottom - dead.top, 8.0, "dead-panel-box box"
            )
            retries = any(edge.kind is EdgeKind.RETRY for edge in self._layout.picture.edges)
            title = "DEAD LETTERS AND RETRIES" if retries else "DEAD LETTERS"
            yield text(self._clear_of_ways(title), dead.top + 20.0, title, "heading about-dead")
        headed: set[NodeKind] = set()
        for column in main.layered.columns:
            node = next((item for item in column if item.node is not None), None)
            if node is not None and node.node is not None and node.node.kind not in headed:
                headed.add(node.node.kind)
                yield text(node.x + 2.0, MARGIN + 10.0, node.node.kind.value.upper(), "heading")
        for part in main.part_tops.keys() - {MAIN}:
            yield from self._frame(part)

    def _clear_of_ways(self, title: str) -> float:
        """Where no way into the panel crosses its title."""
        crossing = sorted({x for way in self._layout.ways for x, _ in way.points})
        width = sans_width(title, 13.0)
        left = MARGIN
        for x in crossing:
            if left - 8.0 < x < left + width:
                left = x + 10.0
        return left

    def _frame(self, family: str) -> Iterator[str]:
        main = self._layout.main
        items = [item for item in main.items if item.part == family and item.shape == "node"]
        left = min(item.x for item in items) - 14.0
        right = max(item.right for item in items) + 14.0
        if all(item.node and item.node.kind is NodeKind.QUEUE for item in items):
            right = max(right, max(span[1] for span in main.spans))
        top, bottom = main.part_tops[family], main.part_bottoms[family]
        yield rounded(left, top, right - left, bottom - top, 8.0, "frame")
        title = self._layout.picture.part_titles[family]
        yield text(left + 10.0, top + FRAME_TITLE - 10.0, title, "title")

    # lines

    def _strand(self, panel: Panel, strand: Strand) -> Iterator[str]:
        edge = strand.edge
        style = self._style(edge)
        dashed = " dashed" if edge.kind is EdgeKind.ALTERNATE else ""
        pieces = []
        for left, right in pairwise(strand.items):
            bend_from, bend_to = panel.spans[left.column][1], panel.spans[right.column][0]
            end = right.x if right.shape != "node" else right.x - 6.0
            pieces.append(curve((left.right, left.middle), bend_from, bend_to, (end, right.middle)))
            if right.shape == "bend":
                pieces.append(f"M{number(right.x)},{number(right.middle)}H{number(right.right)}")
        last = strand.items[-1]
        end_point = (last.x, last.middle)
        arrow = tip(end_point, (last.x - 9.0, last.middle), f"{style}-tip")
        yield titled(line("".join(pieces), f"{style}-line{dashed}") + arrow, edge.tooltip)
        if edge.marks and not edge.labels:
            middle = strand.items[len(strand.items) // 2]
            yield from self._badges(middle.right + 18.0, middle.middle + 8.0, edge.marks)

    def _style(self, edge: Edge) -> str:
        """All that only dead letters pass has their colour."""
        return "dead" if self._layout.picture.is_dead(edge) else STYLES[edge.kind]

    def _stub(self, panel: Panel, strand: Strand) -> Iterator[str]:
        """From an exchange to the labels from which a way starts."""
        if len(strand.items) == 2:
            source, chip = strand.items
            bends = panel.spans[source.column][1], panel.spans[chip.column][0]
            start, end = (source.right, source.middle), (chip.x, chip.middle)
            yield line(curve(start, *bends, end), f"{self._style(strand.edge)}-line")

    def _way(self, way: Way) -> Iterator[str]:
        style = self._style(way.edge)
        last, before = way.points[-1], way.points[-2]
        inwards = 6.0 if before[0] < last[0] else -6.0
        shortened: list[Point] = [*way.points[:-1], (last[0] - inwards, last[1])]
        shape = line(along(shortened), f"{style}-line") + tip(last, before, f"{style}-tip")
        yield titled(shape, way.edge.tooltip)

    # boxes

    def _chip(self, item: Item) -> Iterator[str]:
        if item.edge is None:
            return
        shapes = [rounded(item.x, item.y, item.width, item.height, 6.0, "chip-box box")]
        for index, words in enumerate(chip_lines(item.edge)):
            base = item.y + 4.0 + index * CHIP_LINE + 11.0
            shapes.append(text(item.x + 9.0, base, words, "mono"))
        yield titled("".join(shapes), item.edge.tooltip or "\n".join(item.edge.labels))
        yield from self._badges(item.right - 3.0, item.y + 1.0, item.edge.marks)

    def _node(self, item: Item) -> Iterator[str]:
        node = item.node
        if node is None:
            return
        missing = " missing dashed" if node.is_missing else ""
        in_family = " dashed" if node.part not in (MAIN, DEAD) else ""
        kind = (
            "dead"
            if node.part == DEAD and node.kind is not NodeKind.CONSUMER
            else _BOXES[node.kind]
        )
        style = f"{kind}-box box{missing or in_family}"
        shapes = [rounded(item.x, item.y, item.width, item.height, _RADII[node.kind], style)]
        if node.kind is NodeKind.QUEUE:
            top, bottom = item.y + 7.0, item.bottom - 7.0
            shapes.append(bars(item.right - 8.0, top, bottom, f"{kind}-box box"))
        shapes += _texts(item, node)
        yield titled("".join(shapes), "\n".join((node.title, *node.details)))
        yield from self._badges(item.right - 3.0, item.y + 1.0, node.marks)

    def _badges(self, x: float, y: float, marks: Sequence[int]) -> Iterator[str]:
        for place, mark in enumerate(marks[:4]):
            yield from badge(x - place * 18.0, y, mark, self._severities[mark])


def _texts(item: Item, node: Node) -> Iterator[str]:
    lines = node_lines(node)
    y = item.y + (item.height - text_height(lines)) / 2
    for words in lines:
        yield text(
            item.x + PADDING, y + words.height - 5.0, words.text, _STYLE_OF_LINE[words.style]
        )
        y += words.height

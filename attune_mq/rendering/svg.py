"""A diagram as SVG: one file, with colours for light and dark, and the reader's fonts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise

from attune_mq.rendering import shapes as draw
from attune_mq.rendering.composing import compose
from attune_mq.rendering.detours import Polyline
from attune_mq.rendering.diagram import DEAD, MAIN, Diagram, EdgeKind, Finding, NodeKind
from attune_mq.rendering.layers import Item, Panel, Strand
from attune_mq.rendering.layout import CHIP_LINE, FRAME_TITLE, MARGIN, PADDING, Layout, lay_out
from attune_mq.rendering.palette import style_sheet
from attune_mq.rendering.text import chip_lines, mono_width, node_lines, sans_width, text_height
from attune_mq.topology.model import Topology

ROW = 17.0
FINDINGS_SHOWN = 20
"""`attune-mq lint` lists the others, too."""
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


def to_svg(topology: Topology, findings: Sequence[Finding] = ()) -> str:
    """The topology as an SVG document, with the findings about it marked and listed below.

    What the library adds is drawn, too. Long lists of keys and long names are shortened; their
    tooltips have them whole. The colours follow the reader's preference for light or dark.
    """
    layout = lay_out(compose(topology, findings))
    diagram = layout.diagram
    notes, bottom = legend(diagram, MARGIN, layout.width - MARGIN, layout.height - 8.0)
    width, height = draw.number(layout.width), draw.number(bottom + MARGIN - 6.0)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            f"aria-label={draw.attribute(diagram.summary)}>",
            f"<style>\n{style_sheet()}\n</style>",
            f'<rect width="{width}" height="{height}" rx="8" class="ground"/>',
            *_Drawing(layout).shapes(),
            *notes,
            "</svg>\n",
        ]
    )


class _Drawing:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._diagram = layout.diagram

    def shapes(self) -> Iterator[str]:
        """From the background to the foreground."""
        panels = (self._layout.main, self._layout.dead)
        yield from self._ground()
        for panel in panels:
            for strand in panel.strands:
                yield from self._strand(panel, strand)
            for strand in panel.detours:
                yield from self._stub(panel, strand)
        for detour in self._layout.detours:
            yield self._detour(detour)
        for panel in panels:
            for item in panel.items:
                yield from self._chip(item) if item.shape == "chip" else self._node(item)

    def _ground(self) -> Iterator[str]:
        """The panel of dead letters, the titles of columns, and the frames of families."""
        dead, main = self._layout.dead, self._layout.main
        if dead.nodes:
            width, height = self._layout.width - MARGIN, dead.bottom - dead.top
            yield draw.rounded(MARGIN / 2, dead.top, width, height, 8.0, "dead-panel-box box")
            retries = any(edge.kind is EdgeKind.RETRY for edge in self._diagram.edges)
            title = "DEAD LETTERS AND RETRIES" if retries else "DEAD LETTERS"
            yield draw.text(
                self._clear_of_detours(title), dead.top + 20.0, title, "heading about-dead"
            )
        titled_kinds: set[NodeKind] = set()
        for column in main.columns:
            item = next((item for item in column if item.node), None)
            if item and item.kind and item.kind not in titled_kinds:
                titled_kinds.add(item.kind)
                yield draw.text(item.x + 2.0, MARGIN + 10.0, item.kind.value.upper(), "heading")
        for part in main.part_tops.keys() - {MAIN}:
            yield from self._frame(part)

    def _clear_of_detours(self, title: str) -> float:
        """Where no detour crosses the title of the panel."""
        crossing = sorted({x for detour in self._layout.detours for x, _ in detour.points})
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
        if all(item.kind is NodeKind.QUEUE for item in items):
            right = max(right, max(span[1] for span in main.spans))
        top, bottom = main.part_tops[family], main.part_bottoms[family]
        yield draw.rounded(left, top, right - left, bottom - top, 8.0, "frame")
        title = self._diagram.part_titles[family]
        yield draw.text(left + 10.0, top + FRAME_TITLE - 10.0, title, "title")

    # lines

    def _strand(self, panel: Panel, strand: Strand) -> Iterator[str]:
        edge = strand.edge
        style = self._diagram.style(edge)
        dashed = " dashed" if edge.kind is EdgeKind.ALTERNATE else ""
        pieces = []
        for left, right in pairwise(strand.items):
            end = right.x if right.shape != "node" else right.x - 6.0
            pieces.append(_curve(panel, left, right, end))
            if right.shape == "bend":
                pieces.append(
                    f"M{draw.number(right.x)},{draw.number(right.middle)}H{draw.number(right.right)}"
                )
        last = strand.items[-1]
        arrow = draw.tip((last.x, last.middle), (last.x - 9.0, last.middle), f"{style}-tip")
        yield draw.titled(draw.line("".join(pieces), f"{style}-line{dashed}") + arrow, edge.tooltip)
        if edge.marks and not edge.labels:
            middle = strand.items[len(strand.items) // 2]
            yield from self._badges(middle.right + 18.0, middle.middle + 8.0, edge.marks)

    def _stub(self, panel: Panel, strand: Strand) -> Iterator[str]:
        """From an exchange to the labels from which a detour starts."""
        if len(strand.items) == 2:
            source, chip = strand.items
            style = self._diagram.style(strand.edge)
            yield draw.line(_curve(panel, source, chip, chip.x), f"{style}-line")

    def _detour(self, detour: Polyline) -> str:
        style = self._diagram.style(detour.edge)
        *others, before, (x, y) = detour.points
        end = x - 6.0 if before[0] < x else x + 6.0
        shape = draw.line(draw.along([*others, before, (end, y)]), f"{style}-line")
        return draw.titled(shape + draw.tip((x, y), before, f"{style}-tip"), detour.edge.tooltip)

    # boxes

    def _chip(self, item: Item) -> Iterator[str]:
        if (edge := item.edge) is None:
            return
        shapes = [draw.rounded(item.x, item.y, item.width, item.height, 6.0, "chip-box box")]
        for index, words in enumerate(chip_lines(edge)):
            base = item.y + 4.0 + index * CHIP_LINE + 11.0
            shapes.append(draw.text(item.x + 9.0, base, words, "mono"))
        yield draw.titled("".join(shapes), edge.tooltip or "\n".join(edge.labels))
        yield from self._badges(item.right - 3.0, item.y + 1.0, edge.marks)

    def _node(self, item: Item) -> Iterator[str]:
        if (node := item.node) is None:
            return
        in_family = " dashed" if node.part not in (MAIN, DEAD) else ""
        style = f"{node.style}-box box"
        outline = style + (" missing dashed" if node.is_missing else in_family)
        shapes = [draw.rounded(item.x, item.y, item.width, item.height, _RADII[node.kind], outline)]
        if node.kind is NodeKind.QUEUE:
            shapes.append(draw.bars(item.right - 8.0, item.y + 7.0, item.bottom - 7.0, style))
        lines = node_lines(node)
        y = item.y + (item.height - text_height(lines)) / 2
        for words in lines:
            base = y + words.height - 5.0
            shapes.append(
                draw.text(item.x + PADDING, base, words.text, _STYLE_OF_LINE[words.style])
            )
            y += words.height
        yield draw.titled("".join(shapes), "\n".join((node.title, *node.details)))
        yield from self._badges(item.right - 3.0, item.y + 1.0, node.marks)

    def _badges(self, x: float, y: float, marks: Sequence[int]) -> Iterator[str]:
        for index, mark in enumerate(marks[:4]):
            severity = self._diagram.findings[mark - 1].severity
            yield from badge(x - index * 18.0, y, mark, severity)


def _curve(panel: Panel, left: Item, right: Item, end: float) -> str:
    """From an item to one of the next column, which it reaches at ``end``."""
    bends = panel.spans[left.column][1], panel.spans[right.column][0]
    return draw.curve((left.right, left.middle), *bends, (end, right.middle))


def legend(diagram: Diagram, left: float, right: float, top: float) -> tuple[list[str], float]:
    """Its shapes, and its bottom."""
    shapes = list(_meanings(diagram, left, top + 12.0))
    bottom = top + 20.0
    for number, finding in enumerate(diagram.findings[:FINDINGS_SHOWN], 1):
        bottom += 8.0
        note = list(_note(number, finding, left, right, bottom))
        bottom += (len(note) - 3) * ROW  # three of its shapes are the badge and the rule
        shapes += note
    missing = len(diagram.findings) - FINDINGS_SHOWN
    if missing > 0:
        bottom += ROW
        more = f"and {missing} more findings: attune-mq lint"
        shapes.append(draw.text(left + 24.0, bottom - 4.0, more, "muted"))
    return shapes, bottom


def _meanings(diagram: Diagram, left: float, middle: float) -> Iterator[str]:
    used = {edge.kind for edge in diagram.edges if diagram.style(edge) == edge.kind.style}
    x = left
    for kind in EdgeKind:
        if kind in used:
            dashed = " dashed" if kind is EdgeKind.ALTERNATE else ""
            yield draw.line(f"M{x},{middle}H{x + 22}", f"{kind.style}-line{dashed}")
            yield draw.text(x + 28.0, middle + 4.0, kind.value, "muted")
            x += 28.0 + sans_width(kind.value, 11.0) + 22.0


def _note(number: int, note: Finding, left: float, right: float, top: float) -> Iterator[str]:
    """Badge, rule, and a shape for each line of the message."""
    base = top + 12.0
    rule_left = left + 24.0
    yield from badge(left + 8.0, base - 4.0, number, note.severity)
    yield draw.text(rule_left, base, note.rule, "mono name")
    message_left = rule_left + mono_width(note.rule, 12.5) + 12.0
    room = max(240.0, right - message_left)
    words = " ".join(note.message.split())
    lines = textwrap.wrap(words, int(room / sans_width("x", 11.0))) or [""]
    for index, shown in enumerate(lines):
        yield draw.text(message_left, base + index * ROW, shown, "plain")


def badge(x: float, y: float, number: int, severity: str) -> Iterator[str]:
    kind = "error" if severity == "error" else "warning"
    yield draw.circle(x, y, 8.0, f"mark-{kind}")
    yield draw.text(x, y + 3.5, str(number), "number")

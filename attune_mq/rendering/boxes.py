"""What is written in a node and on an edge, and how much room that takes."""

from __future__ import annotations

from typing import NamedTuple

from attune_mq.rendering.layers import Item
from attune_mq.rendering.picture import Edge, Node, NodeKind
from attune_mq.rendering.text import listed, mono_width, sans_width, shortened

TITLE_LENGTH = 42
DETAIL_LENGTH = 48
CHIP_LINES = 8
CHIP_LENGTH = 42
CHIP_LINE = 15.0
PADDING = 12.0
LEAST_HEIGHT = 44.0
"""That of a node with one detail, so that rows of nodes agree."""
QUEUE_GLYPH = 18.0
"""Room at the right end of a queue for what makes it look like one."""


class Line(NamedTuple):
    text: str
    style: str
    """``service``, ``name``, ``tag``, ``detail`` or ``warning``."""

    @property
    def height(self) -> float:
        return {"service": 18.0, "name": 18.0}.get(self.style, 15.0)

    @property
    def width(self) -> float:
        match self.style:
            case "service":
                return sans_width(self.text, 13.0) * 1.1  # it is bold
            case "name":
                return mono_width(self.text, 12.5)
            case "tag":
                return mono_width(self.text, 11.0)
            case _:
                return sans_width(self.text, 11.0)


def node_lines(node: Node) -> list[Line]:
    speaks = node.kind in (NodeKind.SERVICE, NodeKind.CONSUMER)
    title = Line(shortened(node.title, TITLE_LENGTH), "service" if speaks else "name")
    style = "tag" if node.kind is NodeKind.CONSUMER else "detail"
    details = [Line(text, style) for text in listed(node.details, 12, DETAIL_LENGTH)]
    warnings = [Line(shortened(text, DETAIL_LENGTH), "warning") for text in node.warning_details]
    return [title, *details, *warnings]


def text_height(lines: list[Line]) -> float:
    return sum(line.height for line in lines)


def chip_lines(edge: Edge) -> tuple[str, ...]:
    return listed(edge.labels, CHIP_LINES, CHIP_LENGTH)


def measure(item: Item) -> None:
    """Set the size of an item. Nodes of a column get the same width later."""
    if item.node is not None:
        lines = node_lines(item.node)
        glyph = QUEUE_GLYPH if item.node.kind is NodeKind.QUEUE else 0.0
        item.width = max(line.width for line in lines) + 2 * PADDING + glyph
        item.height = max(LEAST_HEIGHT, text_height(lines) + 11.0)
    elif item.edge is not None and item.shape == "chip":
        lines_of_chip = chip_lines(item.edge)
        item.width = max(mono_width(line, 11.0) for line in lines_of_chip) + 18.0
        item.height = len(lines_of_chip) * CHIP_LINE + 8.0
    else:
        item.width, item.height = 0.0, 8.0

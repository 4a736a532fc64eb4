"""The text in nodes and on edges, and the room it takes: without a font at hand, a little more
than any usual font needs."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from attune_mq.rendering.diagram import Edge, Node, NodeKind

MONO_EM = 0.605
"""Width of a character of a monospaced font, in sizes of the font; all usual ones agree."""
SANS_EM = 0.56
"""On average, of DejaVu Sans, which is the widest of those that may be used."""
TITLE_LENGTH = 42
DETAIL_LENGTH = 48
CHIP_LINES = 8
CHIP_LENGTH = 42


class Line(NamedTuple):
    text: str
    style: str
    """``service``, ``name``, ``tag``, ``detail`` or ``warning``."""

    @property
    def height(self) -> float:
        return 18.0 if self.style in ("service", "name") else 15.0

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
    is_service = node.kind in (NodeKind.SERVICE, NodeKind.CONSUMER)
    title = Line(shortened(node.title, TITLE_LENGTH), "service" if is_service else "name")
    style = "tag" if node.kind is NodeKind.CONSUMER else "detail"
    details = [Line(text, style) for text in listed(node.details, 12, DETAIL_LENGTH)]
    warnings = [Line(shortened(text, DETAIL_LENGTH), "warning") for text in node.warning_details]
    return [title, *details, *warnings]


def text_height(lines: Sequence[Line]) -> float:
    return sum(line.height for line in lines)


def chip_lines(edge: Edge) -> tuple[str, ...]:
    return listed(edge.labels, CHIP_LINES, CHIP_LENGTH)


def details_of(node: Node) -> tuple[str, ...]:
    """What languages without a layout of ours show below the title."""
    return listed(node.details + node.warning_details, 12, 60)


def labels_of(edge: Edge) -> list[str]:
    return [*listed(edge.labels, 8, 48), *filter(None, [marked(edge.marks).strip()])]


def marked(numbers: Sequence[int]) -> str:
    return "".join(f" ⚠{number}" for number in numbers)


def mono_width(text: str, size: float) -> float:
    return _cells(text) * MONO_EM * size


def sans_width(text: str, size: float) -> float:
    return _cells(text) * SANS_EM * size


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def shortened(text: str, length: int) -> str:
    """``text`` in one line of at most ``length`` characters, without its middle if need be."""
    line = "".join(character if character.isprintable() else "·" for character in text)
    if len(line) <= length:
        return line
    end = (length - 1) // 2
    return f"{line[: length - 1 - end]}…{line[-end:]}"


def listed(texts: tuple[str, ...], lines: int, length: int) -> tuple[str, ...]:
    """At most ``lines`` lines of at most ``length`` characters; the last counts the missing."""
    shown = texts if len(texts) <= lines else texts[: lines - 1]
    more = len(texts) - len(shown)
    short = tuple(shortened(text, length) for text in shown)
    return (*short, f"and {more} more") if more else short

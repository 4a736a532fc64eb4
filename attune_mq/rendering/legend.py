"""Below a diagram: what its lines mean, and the findings that its marks number."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from attune_mq.rendering.diagram import Diagram, EdgeKind, Finding
from attune_mq.rendering.shapes import circle, line, text
from attune_mq.rendering.text import mono_width, sans_width

ROW = 17.0
FINDINGS_SHOWN = 20
"""`attune-mq lint` lists the others, too."""


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
        shapes.append(text(left + 24.0, bottom - 4.0, more, "muted"))
    return shapes, bottom


def _meanings(diagram: Diagram, left: float, middle: float) -> Iterator[str]:
    used = {edge.kind for edge in diagram.edges if diagram.style(edge) == edge.kind.style}
    x = left
    for kind in EdgeKind:
        if kind in used:
            dashed = " dashed" if kind is EdgeKind.ALTERNATE else ""
            yield line(f"M{x},{middle}H{x + 22}", f"{kind.style}-line{dashed}")
            yield text(x + 28.0, middle + 4.0, kind.value, "muted")
            x += 28.0 + sans_width(kind.value, 11.0) + 22.0


def _note(number: int, note: Finding, left: float, right: float, top: float) -> Iterator[str]:
    """Badge, rule, and a shape for each line of the message."""
    base = top + 12.0
    rule_left = left + 24.0
    yield from badge(left + 8.0, base - 4.0, number, note.severity)
    yield text(rule_left, base, note.rule, "mono name")
    message_left = rule_left + mono_width(note.rule, 12.5) + 12.0
    room = max(240.0, right - message_left)
    words = " ".join(note.message.split())
    lines = textwrap.wrap(words, int(room / sans_width("x", 11.0))) or [""]
    for index, shown in enumerate(lines):
        yield text(message_left, base + index * ROW, shown, "plain")


def badge(x: float, y: float, number: int, severity: str) -> Iterator[str]:
    kind = "error" if severity == "error" else "warning"
    yield circle(x, y, 8.0, f"mark-{kind}")
    yield text(x, y + 3.5, str(number), "number")

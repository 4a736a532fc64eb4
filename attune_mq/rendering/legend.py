"""Below a picture: what its lines mean, and the findings that its marks number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from attune_mq.rendering.picture import EdgeKind, Note, Picture
from attune_mq.rendering.shapes import circle, line, text
from attune_mq.rendering.text import mono_width, sans_width, wrapped

ROW = 17.0
NOTES = 20
"""Findings that are written out; `attune-mq lint` tells the others, too."""
_SAID = {
    EdgeKind.PUBLISH: "publishes",
    EdgeKind.BINDING: "is bound, with key",
    EdgeKind.ALTERNATE: "gets what cannot be routed",
    EdgeKind.CONSUME: "is consumed by",
    EdgeKind.DEAD_LETTER: "dead letters",
    EdgeKind.RETRY: "waits for a retry and returns",
}
STYLES = {
    EdgeKind.PUBLISH: "publish",
    EdgeKind.BINDING: "binding",
    EdgeKind.ALTERNATE: "binding",
    EdgeKind.CONSUME: "consume",
    EdgeKind.DEAD_LETTER: "dead",
    EdgeKind.RETRY: "retry",
}


class Legend(NamedTuple):
    shapes: tuple[str, ...]
    bottom: float


def legend(picture: Picture, left: float, right: float, top: float) -> Legend:
    shapes = list(_meanings(picture, left, top + 12.0))
    bottom = top + 20.0
    for note in picture.notes[:NOTES]:
        bottom += 8.0
        for shape_or_step in _note(note, left, right, bottom):
            if isinstance(shape_or_step, float):
                bottom += shape_or_step
            else:
                shapes.append(shape_or_step)
    missing = len(picture.notes) - NOTES
    if missing > 0:
        bottom += ROW
        more = f"and {missing} more findings: attune-mq lint"
        shapes.append(text(left + 24.0, bottom - 4.0, more, "muted"))
    return Legend(tuple(shapes), bottom)


def _meanings(picture: Picture, left: float, middle: float) -> Iterator[str]:
    used = {edge.kind for edge in picture.edges if not picture.is_dead(edge)}
    x = left
    for kind, meaning in _SAID.items():
        if kind in used:
            dashed = " dashed" if kind is EdgeKind.ALTERNATE else ""
            stroke = f"M{x},{middle}H{x + 22}"
            yield line(stroke, f"{STYLES[kind]}-line{dashed}")
            yield text(x + 28.0, middle + 4.0, meaning, "muted")
            x += 28.0 + sans_width(meaning, 11.0) + 22.0


def _note(note: Note, left: float, right: float, top: float) -> Iterator[str | float]:
    """The shapes of a footnote, then its height."""
    base = top + 12.0
    rule_left = left + 24.0
    yield from badge(left + 8.0, base - 4.0, note.number, note.severity)
    yield text(rule_left, base, note.rule, "mono name")
    message_left = rule_left + mono_width(note.rule, 12.5) + 12.0
    room = max(240.0, right - message_left)
    lines = wrapped(note.message, int(room / sans_width("x", 11.0)))
    for number, words in enumerate(lines):
        yield text(message_left, base + number * ROW, words, "plain")
    yield len(lines) * ROW


def badge(x: float, y: float, number: int, severity: str) -> Iterator[str]:
    kind = "error" if severity == "error" else "warning"
    yield circle(x, y, 8.0, f"mark-{kind}")
    yield text(x, y + 3.5, str(number), "number")

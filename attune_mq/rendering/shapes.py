"""SVG's shapes as text."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from attune_mq.rendering.detours import Point

RADIUS = 7.0
TIP = 8.0


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def rounded(x: float, y: float, width: float, height: float, radius: float, style: str) -> str:
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" '
        f'height="{number(height)}" rx="{number(radius)}" class="{style}"/>'
    )


def circle(x: float, y: float, radius: float, style: str) -> str:
    return f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" class="{style}"/>'


def text(x: float, y: float, content: str, style: str) -> str:
    """``y`` is the base line."""
    preserved = ' xml:space="preserve"' if content != " ".join(content.split()) else ""
    position = f'x="{number(x)}" y="{number(y)}" class="{style}"'
    return f"<text {position}{preserved}>{_legal(content)}</text>"


def titled(content: str, title: str) -> str:
    """``content`` with what is shown when the pointer rests on it."""
    return f"<g><title>{_legal(title)}</title>{content}</g>" if title else content


def attribute(value: str) -> str:
    return quoteattr(_printable(value))


def line(commands: str, style: str) -> str:
    return f'<path d="{commands}" class="line {style}"/>'


def along(points: Sequence[Point]) -> str:
    """Straight pieces with round corners."""
    commands = [f"M{_at(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(RADIUS, _distance(before, corner) / 2, _distance(corner, after) / 2)
        start, end = _towards(corner, before, radius), _towards(corner, after, radius)
        commands.append(f"L{_at(start)}Q{_at(corner)} {_at(end)}")
    commands.append(f"L{_at(points[-1])}")
    return "".join(commands)


def curve(start: Point, bend_from: float, bend_to: float, end: Point) -> str:
    """From left to right: level, then up or down between two ``x``, then level again."""
    half = (bend_from + bend_to) / 2
    if abs(start[1] - end[1]) < 0.5:
        return f"M{_at(start)}L{_at((end[0], start[1]))}"
    return (
        f"M{_at(start)}H{number(bend_from)}"
        f"C{_at((half, start[1]))} {_at((half, end[1]))} {_at((bend_to, end[1]))}"
        f"H{number(end[0])}"
    )


def tip(end: Point, before: Point, style: str) -> str:
    """The head of an arrow that comes from ``before``, level, and ends at ``end``."""
    x, y = end
    back = x - TIP if before[0] < x else x + TIP
    corners = f"{_at((x, y))} {_at((back, y - TIP / 2.2))} {_at((back, y + TIP / 2.2))}"
    return f'<polygon points="{corners}" class="{style}"/>'


def bars(x: float, top: float, bottom: float, style: str) -> str:
    """The end of a queue, where messages leave it."""
    strokes = "".join(
        f"M{number(x - offset)} {number(top)}V{number(bottom)}" for offset in (0.0, 4.5, 9.0)
    )
    return f'<path d="{strokes}" class="{style}"/>'


def _at(point: Point) -> str:
    return f"{number(point[0])},{number(point[1])}"


def _distance(one: Point, other: Point) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(point: Point, other: Point, distance: float) -> Point:
    """All corners are right angles, so one of the differences is zero."""
    (x, y), (other_x, other_y) = point, other
    step_x = (other_x > x) - (other_x < x)
    step_y = (other_y > y) - (other_y < y)
    return x + step_x * distance, y + step_y * distance


def _legal(content: str) -> str:
    return escape(_printable(content))


def _printable(content: str) -> str:
    """XML 1.0 has no way to write most control characters."""
    return "".join(each if each.isprintable() or each == "\n" else "·" for each in content)

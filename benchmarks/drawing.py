"""The picture of a run: a bar for each series of the chosen sections."""

from __future__ import annotations

from html import escape

from benchmarks.results import Section, shown

WIDTH, LABEL, BAR, LINE, TITLE = 760, 230, 420, 22, 40
OURS, OTHERS, INK = "#2563a8", "#b9c4d0", "#333"
_TEXT = 'font-family="sans-serif" font-size="13"'


def svg(sections: list[Section]) -> str:
    parts: list[str] = []
    top = 10
    for section in sections:
        parts.append(_text(10, top + 24, f"{section.title} ({section.unit})", bold=True))
        top += TITLE
        longest = max(section.median(name) for name in section.series)
        for name in sorted(section.series, key=section.median, reverse=True):
            parts += _bar(name, section.median(name), longest, top)
            top += LINE
        top += 14
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" '
        f'width="{WIDTH}" height="{top}">'
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _bar(name: str, value: float, longest: float, top: int) -> list[str]:
    width = max(1.0, BAR * value / longest)
    colour = OURS if name.startswith("attune") else OTHERS
    return [
        _text(10, top + 15, name, bold=colour == OURS),
        f'<rect x="{LABEL}" y="{top + 2}" width="{width:.1f}" height="{LINE - 6}" '
        f'fill="{colour}"/>',
        _text(LABEL + width + 6, top + 15, shown(value)),
    ]


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" {_TEXT}{weight}>{escape(text)}</text>'

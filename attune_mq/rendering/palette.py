"""Colours of all diagrams, and the style sheet of those in SVG: for light and dark."""

from __future__ import annotations

from typing import NamedTuple

MONO = (
    'ui-monospace, SFMono-Regular, "SF Mono", Menlo, Consolas, "Liberation Mono", '
    '"DejaVu Sans Mono", monospace'
)
SANS = (
    'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Helvetica, Arial, '
    '"Liberation Sans", "DejaVu Sans", sans-serif'
)

_ALWAYS = f"""
text {{ font-family: {SANS}; font-size: 11px; }}
.mono {{ font-family: {MONO}; }}
.heading {{ font-size: 10.5px; font-weight: 600; letter-spacing: .09em; }}
.title {{ font-weight: 600; }}
.service {{ font-size: 13px; font-weight: 600; }}
.name {{ font-size: 12.5px; font-weight: 600; }}
.number {{ font-size: 10px; font-weight: 700; text-anchor: middle; }}
.line {{ fill: none; stroke-width: 1.5; }}
.box {{ stroke-width: 1.3; }}
.frame {{ fill: none; stroke-width: 1.2; stroke-dasharray: 5 4; }}
.dashed {{ stroke-dasharray: 5 4; }}
"""


class Colour(NamedTuple):
    """``stroke`` of a line or of text; ``fill`` inside a box."""

    stroke: str
    fill: str = ""


_COLOURS = {
    "ground": (Colour("#ffffff"), Colour("#0d1117")),
    "text": (Colour("#1f2328"), Colour("#e6edf3")),
    "muted": (Colour("#59636e"), Colour("#9198a1")),
    "chip": (Colour("#d1d9e0", "#ffffff"), Colour("#3d444d", "#0d1117")),
    "service": (Colour("#818b98", "#f6f8fa"), Colour("#818b98", "#212830")),
    "exchange": (Colour("#6366f1", "#eef2ff"), Colour("#8b8ff5", "#1e1f4b")),
    "queue": (Colour("#0e7490", "#ecfeff"), Colour("#22b8cf", "#0b2f38")),
    "consumer": (Colour("#15803d", "#f0fdf4"), Colour("#3fb950", "#0f2d1a")),
    "publish": (Colour("#818b98"), Colour("#818b98")),
    "binding": (Colour("#6366f1"), Colour("#8b8ff5")),
    "consume": (Colour("#15803d"), Colour("#3fb950")),
    "dead": (Colour("#cf222e", "#ffffff"), Colour("#ff7b72", "#0d1117")),
    "dead-panel": (Colour("#f5c6cb", "#fff5f5"), Colour("#5a2428", "#1c1214")),
    "retry": (Colour("#b45309"), Colour("#e3a23c")),
    "warning": (Colour("#9a6700"), Colour("#d29922")),
    "on-mark": (Colour("#ffffff"), Colour("#0d1117")),
}
"""For light and for dark."""
LIGHT = {name: light for name, (light, _) in _COLOURS.items()}
_DARK = {name: dark for name, (_, dark) in _COLOURS.items()}
BOXES = {
    **{name: LIGHT[name] for name in ("service", "exchange", "queue", "consumer")},
    "dead": Colour(LIGHT["dead"].stroke, LIGHT["dead-panel"].fill),
}
"""Of nodes, by their style, where there is no panel behind those of dead letters."""


def style_sheet() -> str:
    dark = "".join(f"  {rule}\n" for rule in _rules(_DARK))
    light = "\n".join(_rules(LIGHT))
    return f"{_ALWAYS.strip()}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}}}"


def _rules(colours: dict[str, Colour]) -> list[str]:
    stroke = {name: colour.stroke for name, colour in colours.items()}
    rules = [
        f".ground {{ fill: {stroke['ground']}; }}",
        f"text {{ fill: {stroke['text']}; }}",
        f".muted, .heading, .title, .detail {{ fill: {stroke['muted']}; }}",
        f".frame {{ stroke: {stroke['muted']}; }}",
        f".about-dead {{ fill: {stroke['dead']}; }}",
        f".mark-error {{ fill: {stroke['dead']}; }}",
        f".mark-warning {{ fill: {stroke['warning']}; }}",
        f".number {{ fill: {stroke['on-mark']}; }}",
    ]
    rules += [
        f".{name}-box {{ fill: {colours[name].fill}; stroke: {stroke[name]}; }}"
        for name in ("service", "exchange", "queue", "consumer", "dead-panel", "dead", "chip")
    ]
    for name in ("publish", "binding", "consume", "dead", "retry"):
        rules.append(f".{name}-line {{ stroke: {stroke[name]}; }}")
        rules.append(f".{name}-tip {{ fill: {stroke[name]}; }}")
    rules.append(f".missing {{ stroke: {stroke['dead']}; }}")  # last: it overrides the others
    return rules

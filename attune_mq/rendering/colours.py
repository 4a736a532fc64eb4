"""The style sheet of a picture: for light and dark, on a ground of its own."""

from __future__ import annotations

from collections.abc import Mapping

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

Colours = Mapping[str, tuple[str, str]]
"""The colour inside, if there is an inside, and that of the line around it or of the text."""

_LIGHT: Colours = {
    "ground": ("", "#ffffff"),
    "text": ("", "#1f2328"),
    "muted": ("", "#59636e"),
    "chip": ("#ffffff", "#d1d9e0"),
    "service": ("#f6f8fa", "#818b98"),
    "exchange": ("#eef2ff", "#6366f1"),
    "queue": ("#ecfeff", "#0e7490"),
    "consumer": ("#f0fdf4", "#15803d"),
    "publish": ("", "#818b98"),
    "binding": ("", "#6366f1"),
    "consume": ("", "#15803d"),
    "dead": ("#ffffff", "#cf222e"),
    "dead-panel": ("#fff5f5", "#f5c6cb"),
    "retry": ("", "#b45309"),
    "warning": ("", "#9a6700"),
    "on-mark": ("", "#ffffff"),
}
_DARK: Colours = {
    "ground": ("", "#0d1117"),
    "text": ("", "#e6edf3"),
    "muted": ("", "#9198a1"),
    "chip": ("#0d1117", "#3d444d"),
    "service": ("#212830", "#818b98"),
    "exchange": ("#1e1f4b", "#8b8ff5"),
    "queue": ("#0b2f38", "#22b8cf"),
    "consumer": ("#0f2d1a", "#3fb950"),
    "publish": ("", "#818b98"),
    "binding": ("", "#8b8ff5"),
    "consume": ("", "#3fb950"),
    "dead": ("#0d1117", "#ff7b72"),
    "dead-panel": ("#1c1214", "#5a2428"),
    "retry": ("", "#e3a23c"),
    "warning": ("", "#d29922"),
    "on-mark": ("", "#0d1117"),
}
_LINES = ("publish", "binding", "consume", "dead", "retry")
_BOXES = ("service", "exchange", "queue", "consumer", "dead-panel", "dead", "chip")


def style_sheet() -> str:
    dark = "".join(f"  {rule}\n" for rule in _rules(_DARK))
    light = "\n".join(_rules(_LIGHT))
    return f"{_ALWAYS.strip()}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}}}"


def _rules(colours: Colours) -> list[str]:
    line = {name: stroke for name, (_, stroke) in colours.items()}
    rules = [
        f".ground {{ fill: {line['ground']}; }}",
        f"text {{ fill: {line['text']}; }}",
        f".muted, .heading, .title, .detail {{ fill: {line['muted']}; }}",
        f".frame {{ stroke: {line['muted']}; }}",
        f".about-dead {{ fill: {line['dead']}; }}",
        f".mark-error {{ fill: {line['dead']}; }}",
        f".mark-warning {{ fill: {line['warning']}; }}",
        f".number {{ fill: {line['on-mark']}; }}",
    ]
    for name in _BOXES:
        fill, stroke = colours[name]
        rules.append(f".{name}-box {{ fill: {fill}; stroke: {stroke}; }}")
    for name in _LINES:
        rules.append(f".{name}-line {{ stroke: {line[name]}; }}")
        rules.append(f".{name}-tip {{ fill: {line[name]}; }}")
    rules.append(f".missing {{ stroke: {line['dead']}; }}")  # last: it overrules what it is on
    return rules

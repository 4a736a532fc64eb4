"""A picture as Mermaid, which GitHub, GitLab and many editors draw by themselves.

Source: https://mermaid.js.org/syntax/flowchart.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from attune_mq.rendering.composing import compose
from attune_mq.rendering.marks import Finding
from attune_mq.rendering.picture import (
    DEAD,
    Edge,
    EdgeKind,
    Node,
    NodeKind,
    Picture,
)
from attune_mq.rendering.text import listed, shortened
from attune_mq.topology.model import Topology

_SHAPES = {
    NodeKind.SERVICE: ("([", "])"),
    NodeKind.EXCHANGE: ("{{", "}}"),
    NodeKind.QUEUE: ("[(", ")]"),
    NodeKind.CONSUMER: ("(", ")"),
}
_ARROWS = {EdgeKind.ALTERNATE: "-.->", EdgeKind.DEAD_LETTER: "-.->", EdgeKind.RETRY: "-.->"}
_DEAD_STROKE = "#cf222e"
_RETRY_STROKE = "#b45309"
_CLASSES = """\
classDef service fill:#f6f8fa,stroke:#818b98,color:#1f2328
classDef exchange fill:#eef2ff,stroke:#6366f1,color:#1f2328
classDef queue fill:#ecfeff,stroke:#0e7490,color:#1f2328
classDef consumer fill:#f0fdf4,stroke:#15803d,color:#1f2328
classDef dead fill:#fff5f5,stroke:#cf222e,color:#1f2328
classDef error stroke:#cf222e,stroke-width:3px
classDef warning stroke:#9a6700,stroke-width:3px"""


def to_mermaid(topology: Topology, findings: Sequence[Finding] = ()) -> str:
    """The topology as a Mermaid flowchart, with the findings about it marked and told at its end,
    in comments."""
    picture = compose(topology, findings)
    names = _names(picture)
    lines = ["flowchart LR", *_nodes(picture, names)]
    lines += (
        f"  {names[edge.source]} {_arrow(edge)} {names[edge.target]}" for edge in picture.edges
    )
    lines += [f"  {line}" for line in _CLASSES.splitlines()]
    lines += _styles(picture)
    for note in picture.notes:
        lines.append(f"  %% ({note.number}) {note.severity} {note.rule}: {_comment(note.message)}")
    return "\n".join(lines) + "\n"


def _names(picture: Picture) -> Mapping[str, str]:
    """Ids that a person can read in the source: ``queue_events``."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node_id in picture.nodes:
        wanted = re.sub(r"\W+", "_", node_id, flags=re.ASCII).strip("_")
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name)
        names[node_id] = name
    return names


def _nodes(picture: Picture, names: Mapping[str, str]) -> Iterator[str]:
    for number, (part, title) in enumerate(picture.part_titles.items()):
        nodes = [node for node in picture.nodes.values() if node.part == part]
        if title and nodes:
            yield f'  subgraph part{number}["{_escaped(title)}"]'
        indent = "    " if title else "  "
        for node in nodes:
            yield f"{indent}{names[node.id]}{_label(picture, node)}:::{_class(node)}"
        if title and nodes:
            yield "  end"
            stroke = _DEAD_STROKE if part == DEAD else "#818b98"
            yield f"  style part{number} fill:none,stroke:{stroke},stroke-dasharray:5 4"
    for kind in ("error", "warning"):
        marked = [
            names[node.id] for node in picture.nodes.values() if _worst(picture, node) == kind
        ]
        if marked:
            yield f"  class {','.join(marked)} {kind}"


def _class(node: Node) -> str:
    if node.part == DEAD and node.kind is not NodeKind.CONSUMER:
        return "dead"
    return node.kind.name.lower()


def _worst(picture: Picture, node: Node) -> str:
    severities = {note.severity for note in picture.notes if note.number in node.marks}
    return "error" if "error" in severities else next(iter(severities), "")


def _label(picture: Picture, node: Node) -> str:
    opening, closing = _SHAPES[node.kind]
    lines = [f"<b>{_escaped(shortened(node.title, 60))}</b>{_marks(node.marks)}"]
    lines += [_escaped(line) for line in listed(node.details + node.warning_details, 12, 60)]
    return f'{opening}"{"<br/>".join(lines)}"{closing}'


def _arrow(edge: Edge) -> str:
    arrow = _ARROWS.get(edge.kind, "-->")
    lines = [_escaped(line) for line in listed(edge.labels, 8, 48)]
    if edge.marks:
        lines.append(_marks(edge.marks).strip())
    return f'{arrow}|"{"<br/>".join(lines)}"|' if lines else arrow


def _styles(picture: Picture) -> Iterator[str]:
    """Edges have no classes in Mermaid, but numbers."""
    strokes: dict[str, list[str]] = {}
    for number, edge in enumerate(picture.edges):
        if edge.kind is EdgeKind.RETRY:
            strokes.setdefault(_RETRY_STROKE, []).append(str(number))
        elif edge.kind is EdgeKind.DEAD_LETTER or picture.is_dead(edge):
            strokes.setdefault(_DEAD_STROKE, []).append(str(number))
    for stroke, numbers in strokes.items():
        yield f"  linkStyle {','.join(numbers)} stroke:{stroke}"


def _marks(marks: Sequence[int]) -> str:
    return "".join(f" ⚠{number}" for number in marks)


def _escaped(text: str) -> str:
    """What Mermaid, or Markdown in a label, would take for a sign of its own, by its number."""
    return re.sub(r"[\"#&<>`*_~\\;|]", lambda found: f"#{ord(found[0])};", shortened(text, 200))


def _comment(text: str) -> str:
    return shortened(text, 200).replace("{", "(").replace("}", ")")

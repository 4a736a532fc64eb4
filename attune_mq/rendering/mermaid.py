"""A diagram as Mermaid, which GitHub, GitLab and many editors draw by themselves.

Source: https://mermaid.js.org/syntax/flowchart.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from attune_mq.rendering.composing import compose
from attune_mq.rendering.diagram import DEAD, Diagram, Edge, EdgeKind, Finding, Node, NodeKind
from attune_mq.rendering.palette import BOXES, LIGHT
from attune_mq.rendering.text import details_of, labels_of, marked, shortened
from attune_mq.topology.model import Topology

_SHAPES = {
    NodeKind.SERVICE: ("([", "])"),
    NodeKind.EXCHANGE: ("{{", "}}"),
    NodeKind.QUEUE: ("[(", ")]"),
    NodeKind.CONSUMER: ("(", ")"),
}
_DOTTED = (EdgeKind.ALTERNATE, EdgeKind.DEAD_LETTER, EdgeKind.RETRY)


def to_mermaid(topology: Topology, findings: Sequence[Finding] = ()) -> str:
    """The topology as a Mermaid flowchart, with the findings about it marked and listed at its
    end, in comments."""
    diagram = compose(topology, findings)
    names = _names(diagram)
    lines = ["flowchart LR", *_parts(diagram, names), *_marked_nodes(diagram, names)]
    lines += [f"  {names[one.source]} {_arrow(one)} {names[one.target]}" for one in diagram.edges]
    for name, (stroke, fill) in BOXES.items():
        lines.append(f"  classDef {name} fill:{fill},stroke:{stroke},color:{LIGHT['text'].stroke}")
    for name, colour in {"error": "dead", "warning": "warning"}.items():
        lines.append(f"  classDef {name} stroke:{LIGHT[colour].stroke},stroke-width:3px")
    lines += _edge_colours(diagram)
    for number, one in enumerate(findings, 1):
        lines.append(f"  %% ({number}) {one.severity} {one.rule}: {_comment(one.message)}")
    return "\n".join(lines) + "\n"


def _names(diagram: Diagram) -> Mapping[str, str]:
    """Ids that a person can read in the source: ``queue_events``."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node_id in diagram.nodes:
        wanted = re.sub(r"\W+", "_", node_id, flags=re.ASCII).strip("_")
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name)
        names[node_id] = name
    return names


def _parts(diagram: Diagram, names: Mapping[str, str]) -> Iterator[str]:
    for number, part in enumerate(diagram.parts):
        if part.is_framed:
            yield f'  subgraph part{number}["{_escaped(part.title)}"]'
        indent = "    " if part.title else "  "
        for node in part.nodes:
            yield f"{indent}{names[node.id]}{_label(node)}:::{node.style}"
        if part.is_framed:
            yield "  end"
            stroke = LIGHT["dead" if part.key == DEAD else "service"].stroke
            yield f"  style part{number} fill:none,stroke:{stroke},stroke-dasharray:5 4"


def _marked_nodes(diagram: Diagram, names: Mapping[str, str]) -> Iterator[str]:
    """The class of nodes with findings, by the worst of these."""
    marked_as: dict[str, list[str]] = {"error": [], "warning": []}
    for node in diagram.nodes.values():
        severities = {diagram.findings[number - 1].severity for number in node.marks}
        for severity in [one for one in marked_as if one in severities][:1]:
            marked_as[severity].append(names[node.id])
    for severity, marked_names in marked_as.items():
        if marked_names:
            yield f"  class {','.join(marked_names)} {severity}"


def _label(node: Node) -> str:
    opening, closing = _SHAPES[node.kind]
    title = f"<b>{_escaped(shortened(node.title, 60))}</b>{marked(node.marks)}"
    return f'{opening}"{"<br/>".join([title, *map(_escaped, details_of(node))])}"{closing}'


def _arrow(edge: Edge) -> str:
    arrow = "-.->" if edge.kind in _DOTTED else "-->"
    lines = [_escaped(line) for line in labels_of(edge)]
    return f'{arrow}|"{"<br/>".join(lines)}"|' if lines else arrow


def _edge_colours(diagram: Diagram) -> Iterator[str]:
    """Edges have no classes in Mermaid, but numbers."""
    numbers: dict[str, list[str]] = {}
    for number, edge in enumerate(diagram.edges):
        style = diagram.style(edge)
        if style in ("dead", "retry"):
            numbers.setdefault(style, []).append(str(number))
    for style, some in numbers.items():
        yield f"  linkStyle {','.join(some)} stroke:{LIGHT[style].stroke}"


def _escaped(text: str) -> str:
    """Characters with a meaning in Mermaid, or in Markdown in a label, by their number."""
    return re.sub(r"[\"#&<>`*_~\\;|]", lambda found: f"#{ord(found[0])};", shortened(text, 200))


def _comment(text: str) -> str:
    return shortened(text, 200).replace("{", "(").replace("}", ")")

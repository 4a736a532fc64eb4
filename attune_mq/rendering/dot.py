"""A diagram as DOT, the language of Graphviz: https://graphviz.org/doc/info/lang.html."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attune_mq.rendering.composing import compose
from attune_mq.rendering.diagram import DEAD, Diagram, Edge, EdgeKind, Finding, Node, NodeKind
from attune_mq.rendering.palette import BOXES, LIGHT
from attune_mq.rendering.text import details_of, labels_of, marked, shortened
from attune_mq.topology.model import Topology

_HEAD = """\
digraph topology {
  rankdir=LR;
  bgcolor="white"; fontname="Helvetica"; fontsize=11;
  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, margin="0.16,0.08"];
  edge [fontname="Courier", fontsize=9, arrowsize=0.7];"""


def to_dot(topology: Topology, findings: Sequence[Finding] = ()) -> str:
    """The topology as a DOT digraph, with the findings about it marked and listed below.

    ``dot -Tpdf`` draws it; only that requires Graphviz.
    """
    diagram = compose(topology, findings)
    lines = [_HEAD, *_parts(diagram)]
    lines += [f"  {_edge(diagram, edge)}" for edge in diagram.edges]
    if findings:
        found = [
            f"({n}) {one.severity} {one.rule}: {one.message}" for n, one in enumerate(findings, 1)
        ]
        notes = "".join(_escaped(one) + r"\l" for one in found)  # aligned left
        lines.append(f'  label="{notes}"; labelloc=b; labeljust=l; fontsize=10;')
    return "\n".join([*lines, "}\n"])


def _parts(diagram: Diagram) -> Iterator[str]:
    for number, part in enumerate(diagram.parts):
        indent = "    " if part.title else "  "
        if part.is_framed:
            colour = LIGHT["dead" if part.key == DEAD else "muted"].stroke
            yield f"  subgraph cluster_{number} {{"
            yield f'    label="{_escaped(part.title)}"; fontcolor="{colour}";'
            yield f'    color="{colour}"; style=dashed;'
        yield from (f"{indent}{_node(node)}" for node in part.nodes)
        if part.is_framed:
            yield "  }"


def _node(node: Node) -> str:
    stroke, fill = BOXES[node.style]
    label = _lines([shortened(node.title, 60) + marked(node.marks), *details_of(node)])
    extra = ', style="filled"' if node.kind is NodeKind.QUEUE else ""
    width = ", penwidth=2.5" if node.marks else ""
    attributes = f'label={label}, fillcolor="{fill}", color="{stroke}"{extra}{width}'
    return f'"{_escaped(node.id)}" [{attributes}];'


def _edge(diagram: Diagram, edge: Edge) -> str:
    attributes = [f'color="{LIGHT[diagram.style(edge)].stroke}"']
    if labels := labels_of(edge):
        attributes.append(f"label={_lines(labels)}")
    if edge.kind in (EdgeKind.ALTERNATE, EdgeKind.RETRY):
        attributes.append("style=dashed")
    if edge.kind.may_lead_back:
        attributes.append("constraint=false")
    ends = f'"{_escaped(edge.source)}" -> "{_escaped(edge.target)}"'
    return f"{ends} [{', '.join(attributes)}];"


def _lines(texts: Sequence[str]) -> str:
    joined = r"\n".join(map(_escaped, texts))
    return f'"{joined}"'


def _escaped(text: str) -> str:
    r"""A backslash begins ``\n``, ``\N`` and the like in labels."""
    return shortened(text, 1_000).replace("\\", "\\\\").replace('"', '\\"')

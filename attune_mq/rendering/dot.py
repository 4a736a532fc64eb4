"""A picture as DOT, the language of Graphviz: https://graphviz.org/doc/info/lang.html."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attune_mq.rendering.composing import compose
from attune_mq.rendering.marks import Finding
from attune_mq.rendering.picture import DEAD, Edge, EdgeKind, Node, NodeKind, Picture
from attune_mq.rendering.text import listed, shortened
from attune_mq.topology.model import Topology

_HEAD = """\
digraph topology {
  rankdir=LR;
  bgcolor="white"; fontname="Helvetica"; fontsize=11;
  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, margin="0.16,0.08"];
  edge [fontname="Courier", fontsize=9, arrowsize=0.7];"""
_FILLS = {
    NodeKind.SERVICE: ("#f6f8fa", "#818b98"),
    NodeKind.EXCHANGE: ("#eef2ff", "#6366f1"),
    NodeKind.QUEUE: ("#ecfeff", "#0e7490"),
    NodeKind.CONSUMER: ("#f0fdf4", "#15803d"),
}
_STROKES = {
    EdgeKind.PUBLISH: "#818b98",
    EdgeKind.BINDING: "#6366f1",
    EdgeKind.ALTERNATE: "#6366f1",
    EdgeKind.CONSUME: "#15803d",
    EdgeKind.DEAD_LETTER: "#cf222e",
    EdgeKind.RETRY: "#b45309",
}
_DEAD = ("#fff5f5", "#cf222e")


def to_dot(topology: Topology, findings: Sequence[Finding] = ()) -> str:
    """The topology as a DOT digraph, with the findings about it marked and told below.

    ``dot -Tpdf`` draws it; Graphviz has to be installed for that, and for nothing else here.
    """
    picture = compose(topology, findings)
    lines = [_HEAD, *_parts(picture)]
    lines += [f"  {_edge(picture, edge)}" for edge in picture.edges]
    if picture.notes:
        told = [f"({n.number}) {n.severity} {n.rule}: {n.message}" for n in picture.notes]
        lines.append(f"  label={_paragraph(told)}; labelloc=b; labeljust=l; fontsize=10;")
    return "\n".join([*lines, "}\n"])


def _parts(picture: Picture) -> Iterator[str]:
    for number, (part, title) in enumerate(picture.part_titles.items()):
        nodes = [node for node in picture.nodes.values() if node.part == part]
        indent = "    " if title else "  "
        if title and nodes:
            colour = _DEAD[1] if part == DEAD else "#59636e"
            yield f"  subgraph cluster_{number} {{"
            yield f'    label={_quoted(title)}; fontcolor="{colour}";'
            yield f'    color="{colour}"; style=dashed;'
        yield from (f"{indent}{_node(picture, node)}" for node in nodes)
        if title and nodes:
            yield "  }"


def _node(picture: Picture, node: Node) -> str:
    dead = node.part == DEAD and node.kind is not NodeKind.CONSUMER
    fill, stroke = _DEAD if dead else _FILLS[node.kind]
    title = shortened(node.title, 60) + _marks(node.marks)
    label = _lines([title, *listed(node.details + node.warning_details, 12, 60)])
    extra = ', style="filled"' if node.kind is NodeKind.QUEUE else ""
    width = ", penwidth=2.5" if node.marks else ""
    return (
        f'{_quoted(node.id)} [label={label}, fillcolor="{fill}", color="{stroke}"{extra}{width}];'
    )


def _edge(picture: Picture, edge: Edge) -> str:
    stroke = _DEAD[1] if picture.is_dead(edge) else _STROKES[edge.kind]
    attributes = [f'color="{stroke}"']
    labels = [*listed(edge.labels, 8, 48), *([_marks(edge.marks).strip()] if edge.marks else [])]
    if labels:
        attributes.append(f"label={_lines(labels)}")
    if edge.kind in (EdgeKind.ALTERNATE, EdgeKind.RETRY):
        attributes.append("style=dashed")
    if edge.kind.is_way_back:
        attributes.append("constraint=false")
    return f"{_quoted(edge.source)} -> {_quoted(edge.target)} [{', '.join(attributes)}];"


def _marks(marks: Sequence[int]) -> str:
    return "".join(f" ⚠{number}" for number in marks)


def _lines(texts: Sequence[str]) -> str:
    joined = r"\n".join(map(_escaped, texts))
    return f'"{joined}"'


def _paragraph(texts: Sequence[str]) -> str:
    """Lines that begin at the left."""
    joined = "".join(_escaped(text) + r"\l" for text in texts)
    return f'"{joined}"'


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    r"""A backslash begins ``\n``, ``\N`` and the like in labels."""
    return shortened(text, 1_000).replace("\\", "\\\\").replace('"', '\\"')

"""What there is to see of a topology: nodes and edges, before anybody thinks of coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

MAIN = ""
DEAD = "<dead letters>"
"""Parts of a picture. Every family is one, too, under its key."""


class NodeKind(Enum):
    """In the order in which a message meets them."""

    SERVICE = "publishers"
    EXCHANGE = "exchanges"
    QUEUE = "queues"
    CONSUMER = "consumers"


class EdgeKind(Enum):
    PUBLISH = "publishes"
    BINDING = "binding"
    ALTERNATE = "alternate exchange"
    CONSUME = "consumes"
    DEAD_LETTER = "dead letters"
    RETRY = "retries"

    @property
    def is_way_back(self) -> bool:
        """Whether it may lead against the direction of reading."""
        return self in (EdgeKind.DEAD_LETTER, EdgeKind.RETRY)


@dataclass(frozen=True)
class Node:
    id: str
    kind: NodeKind
    title: str
    """The broker's name, or the name of a service."""
    details: tuple[str, ...] = ()
    warning_details: tuple[str, ...] = ()
    """Details about dead letters, which have a colour of their own."""
    part: str = MAIN
    is_missing: bool = False
    """Something refers to it, and nothing declares it."""
    marks: tuple[int, ...] = ()
    """Numbers of the findings about it."""


@dataclass(frozen=True)
class Edge:
    source: str
    target: str
    kind: EdgeKind
    labels: tuple[str, ...] = ()
    tooltip: str = ""
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Note:
    """A finding, as a footnote of the picture."""

    number: int
    severity: str
    rule: str
    message: str


@dataclass(frozen=True)
class Picture:
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    families: Mapping[str, tuple[str, ...]]
    """The parameters of each family that is drawn."""
    notes: tuple[Note, ...] = ()

    def of_kind(self, kind: NodeKind) -> Iterator[Node]:
        return (node for node in self.nodes.values() if node.kind is kind)

    @property
    def part_titles(self) -> Mapping[str, str]:
        """The title of each part that may have nodes; the main one has none."""
        titles = {MAIN: "", DEAD: "dead letters"}
        for family, parameters in self.families.items():
            titles[family] = f"{family}: one set for each {', '.join(parameters)}"
        return titles

    def is_dead(self, edge: Edge) -> bool:
        """Whether it is a binding that only dead letters pass."""
        return edge.kind is EdgeKind.BINDING and self.nodes[edge.source].part == DEAD

    @property
    def summary(self) -> str:
        """A sentence for those who cannot see it."""
        counts = [
            f"{sum(1 for _ in self.of_kind(kind))} {kind.value}"
            for kind in (NodeKind.EXCHANGE, NodeKind.QUEUE, NodeKind.SERVICE, NodeKind.CONSUMER)
        ]
        return f"Message topology with {', '.join(counts[:-1])} and {counts[-1]}"

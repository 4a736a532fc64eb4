"""Nodes and edges of a topology, before they have coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from attune_mq.topology.source import Where

MAIN = ""
DEAD = "<dead letters>"
"""Parts of a diagram. Every family is one, too, under its key."""


class NodeKind(Enum):
    """In the order in which a message passes them."""

    SERVICE = "publishers"
    EXCHANGE = "exchanges"
    QUEUE = "queues"
    CONSUMER = "consumers"


class EdgeKind(Enum):
    """The value is what the legend says of it."""

    PUBLISH = "publishes"
    BINDING = "is bound, with key"
    ALTERNATE = "gets what cannot be routed"
    CONSUME = "is consumed by"
    DEAD_LETTER = "dead letters"
    RETRY = "waits for a retry and returns"

    @property
    def may_lead_back(self) -> bool:
        """Whether it may lead against the direction of reading."""
        return self in (EdgeKind.DEAD_LETTER, EdgeKind.RETRY)

    @property
    def style(self) -> str:
        return _EDGE_STYLES.get(self, self.name.lower())


_EDGE_STYLES = {EdgeKind.ALTERNATE: "binding", EdgeKind.DEAD_LETTER: "dead"}


class Finding(Protocol):
    """What a diagram shows of a finding of ``lint``."""

    @property
    def rule(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def where(self) -> Where: ...
    @property
    def message(self) -> str: ...


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
    """Numbers of the findings about it, from 1 on."""

    @property
    def style(self) -> str:
        is_dead = self.part == DEAD and self.kind is not NodeKind.CONSUMER
        return "dead" if is_dead else self.kind.name.lower()


@dataclass(frozen=True)
class Edge:
    source: str
    target: str
    kind: EdgeKind
    labels: tuple[str, ...] = ()
    tooltip: str = ""
    marks: tuple[int, ...] = ()


class Part(NamedTuple):
    key: str
    title: str
    """The main part has none."""
    nodes: Sequence[Node]

    @property
    def is_framed(self) -> bool:
        return bool(self.title and self.nodes)


@dataclass(frozen=True)
class Diagram:
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    part_titles: Mapping[str, str]
    findings: Sequence[Finding] = ()

    @property
    def parts(self) -> list[Part]:
        nodes = self.nodes.values()
        return [
            Part(key, title, [node for node in nodes if node.part == key])
            for key, title in self.part_titles.items()
        ]

    def style(self, edge: Edge) -> str:
        """``dead`` also for a binding that only dead letters pass."""
        is_dead = edge.kind is EdgeKind.BINDING and self.nodes[edge.source].part == DEAD
        return "dead" if is_dead else edge.kind.style

    @property
    def summary(self) -> str:
        """A sentence that describes the diagram to screen readers."""
        kinds = [node.kind for node in self.nodes.values()]
        order = (NodeKind.EXCHANGE, NodeKind.QUEUE, NodeKind.SERVICE, NodeKind.CONSUMER)
        *first, last = [f"{kinds.count(kind)} {kind.value}" for kind in order]
        return f"Message topology with {', '.join(first)} and {last}"

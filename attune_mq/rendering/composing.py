"""A topology as a diagram: its nodes and edges, and the text on them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from attune_mq.rendering.diagram import DEAD, MAIN, Diagram, Edge, EdgeKind, Finding, Node, NodeKind
from attune_mq.topology.contracts import ConsumerSpec, Family
from attune_mq.topology.durations import format_duration
from attune_mq.topology.exchange_types import Hop
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.network import Network
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Binding, Exchange, Queue
from attune_mq.topology.reachability import grouped
from attune_mq.topology.source import Path, path_text

DEFAULT_EXCHANGE_TITLE = "default exchange"


def compose(topology: Topology, findings: Sequence[Finding] = ()) -> Diagram:
    """The diagram of a topology, expanded or not, with the findings about it."""
    whole = expand(topology)
    composer = _Composer(whole, findings)
    composer.add_exchanges()
    for block in blocks(whole):
        composer.add_queues(block)
        composer.add_bindings(block)
        composer.add_messages(block)
        composer.add_consumers(block)
    for block in blocks(whole):
        composer.add_dead_letters(block)
    titles = {MAIN: "", DEAD: "dead letters"}
    for key, family in whole.families.items():
        titles[key] = f"{key}: one set for each {', '.join(family.parameters)}"
    return Diagram(composer.nodes, tuple(composer.edges.values()), titles, findings)


class Block(NamedTuple):
    """The file itself, or one family of it."""

    path: Path
    holder: Topology | Family

    @property
    def family(self) -> str:
        return str(self.path[-1]) if self.path else ""

    def id_of(self, queue: str) -> str:
        return f"queue {self.family}/{queue}" if self.family else f"queue {queue}"


def blocks(topology: Topology) -> list[Block]:
    return [Block(*each) for each in topology.blocks()]


class _Composer:
    def __init__(self, topology: ExpandedTopology, findings: Sequence[Finding]) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str, EdgeKind], Edge] = {}
        self._topology = topology
        self._marks = Marks(topology, findings)
        self._network = Network(topology, with_families=True)
        queues = {
            block.id_of(key): self._network.queue_at[*block.path, "queues", key]
            for block in blocks(topology)
            for key in block.holder.queues
        }
        self._queue_ids = {one.queue.name: key for key, one in queues.items() if one.queue.name}
        self._deaths = {key: one.death for key, one in queues.items() if one.death}
        self._keeping_key = {key for key, one in queues.items() if not one.gives_key}
        self._dead = _DeadParts(topology, self._deaths.values())

    # nodes

    def add_exchanges(self) -> None:
        for key, exchange in self._topology.exchanges.items():
            marks = self._marks.of(("exchanges", key))
            self._add_exchange(exchange.name, _exchange_details(exchange), marks)
        for node in self._network.exchanges.values():
            if (to := node.alternate) is not None:
                source, target = self._exchange(node.name), self._exchange(to.destination)
                self._edge(Edge(source, target, EdgeKind.ALTERNATE))

    def _add_exchange(
        self, name: str, details: str, marks: tuple[int, ...] = (), *, is_missing: bool = False
    ) -> None:
        self._add(
            Node(
                f"exchange {name}",
                NodeKind.EXCHANGE,
                name or DEFAULT_EXCHANGE_TITLE,
                () if is_missing else (details,),
                ("not declared",) if is_missing else (),
                part=DEAD if name in self._dead.exchanges else MAIN,
                is_missing=is_missing,
                marks=marks,
            )
        )

    def _exchange(self, name: str) -> str:
        """The id of an exchange; one that is not in the file is added as a node."""
        if f"exchange {name}" not in self.nodes:
            is_missing = name != "" and name not in BUILT_IN_EXCHANGES
            details = f"{BUILT_IN_EXCHANGES.get(name, 'direct')} · built in"
            self._add_exchange(name, details, is_missing=is_missing)
        return f"exchange {name}"

    def add_queues(self, block: Block) -> None:
        for key, queue in block.holder.queues.items():
            node_id = block.id_of(key)
            node = Node(
                node_id,
                NodeKind.QUEUE,
                queue.name or key,
                _queue_details(queue),
                self._dead_letter_details(node_id, queue),
                part=DEAD if node_id in self._dead.queues else block.family,
                marks=self._marks.of((*block.path, "queues", key)),
            )
            self._add(node)

    def _dead_letter_details(self, node_id: str, queue: Queue) -> tuple[str, ...]:
        """Only what the arrow does not show: a key that is not the name of the queue itself."""
        death = self._deaths.get(node_id)
        if death is None or death.destination == "" or node_id in self._keeping_key:
            return ()
        given = death.routing_key
        return () if given == queue.name else (f"dead letters with key {given}",)

    def add_consumers(self, block: Block) -> None:
        """One node for each service at a queue, with the tags of its consumers."""
        groups: dict[tuple[str, str], dict[str, ConsumerSpec]] = {}
        for tag, spec in block.holder.consumers.items():
            groups.setdefault((spec.service, spec.queue), {})[tag] = spec
        for (service, queue), consumers in groups.items():
            queue_id = block.id_of(queue)
            node = Node(
                f"consumer {service} of {queue_id}",
                NodeKind.CONSUMER,
                service,
                tuple(consumers),
                part=self.nodes[queue_id].part,
                marks=self._marks.of(*((*block.path, "consumers", tag) for tag in consumers)),
            )
            self._add(node)
            prefetches = (f"{tag}: prefetch {one.prefetch_count}" for tag, one in consumers.items())
            self._edge(Edge(queue_id, node.id, EdgeKind.CONSUME, tooltip="\n".join(prefetches)))

    def _add(self, node: Node) -> None:
        self.nodes[node.id] = node

    # edges

    def _edge(self, edge: Edge) -> None:
        """Two edges of a kind between the same ends are one with the labels of both."""
        key = (edge.source, edge.target, edge.kind)
        if (other := self.edges.get(key)) is not None:
            edge = replace(
                edge,
                labels=tuple(dict.fromkeys((*other.labels, *edge.labels))),
                tooltip="\n".join(filter(None, dict.fromkeys((other.tooltip, edge.tooltip)))),
                marks=tuple(dict.fromkeys((*other.marks, *edge.marks))),
            )
        self.edges[key] = edge

    def add_bindings(self, block: Block) -> None:
        for index, binding in enumerate(block.holder.bindings):
            source = self._exchange(self._topology.exchange_name(binding.source))
            if binding.destination_type == "exchange":
                target = self._exchange(self._topology.exchange_name(binding.destination))
            else:
                target = block.id_of(binding.destination)
            marks = self._marks.of((*block.path, "bindings", index))
            self._edge(
                Edge(source, target, EdgeKind.BINDING, _binding_labels(binding), marks=marks)
            )

    def add_messages(self, block: Block) -> None:
        for message_type, contract in block.holder.messages.items():
            name = self._topology.exchange_name(contract.exchange)
            marks = self._marks.of((*block.path, "messages", message_type))
            tooltip = f"{message_type} [{contract.routing_key}]"
            for service in contract.publishers:
                node_id = f"service {service}"
                if node_id not in self.nodes:
                    self._add(Node(node_id, NodeKind.SERVICE, service))
                target = self._exchange(name)
                edge = Edge(node_id, target, EdgeKind.PUBLISH, (message_type,), tooltip, marks)
                self._edge(edge)
            if name == "" and contract.routing_key in self._queue_ids:
                queue_id = self._queue_ids[contract.routing_key]
                self._edge(Edge(self._exchange(name), queue_id, EdgeKind.BINDING))

    def add_dead_letters(self, block: Block) -> None:
        for key, queue in block.holder.queues.items():
            source = block.id_of(key)
            death = self._deaths.get(source)
            if death is None:
                continue
            if death.destination != "":
                end = self._exchange(death.destination)
            elif death.routing_key in self._queue_ids:
                end = self._queue_ids[death.routing_key]
            else:
                continue
            if queue.purpose == "retry":
                self._edge(Edge(end, source, EdgeKind.RETRY, tooltip="to wait before a retry"))
                self._edge(Edge(source, end, EdgeKind.RETRY, tooltip="to be tried again"))
            else:
                keeps_key = source in self._keeping_key
                with_key = "" if keeps_key else f"with key {death.routing_key}"
                self._edge(Edge(source, end, EdgeKind.DEAD_LETTER, tooltip=with_key))


def _exchange_details(exchange: Exchange) -> str:
    words = [exchange.type]
    words += ["internal"] * exchange.internal
    words += ["auto-delete"] * exchange.auto_delete
    words += [] if exchange.durable else ["transient"]
    return " · ".join(words)


def _queue_details(queue: Queue) -> tuple[str, ...]:
    words: list[str] = [queue.type] if queue.type else []
    words += ["named by the server"] * queue.is_server_named
    words += ["exclusive"] * queue.exclusive
    words += ["auto-delete"] * queue.auto_delete
    words += [] if queue.durable else ["transient"]
    limits = {
        "ttl": None if queue.ttl_ms is None else format_duration(queue.ttl_ms),
        "expires": None if queue.expires_ms is None else format_duration(queue.expires_ms),
        "length": queue.max_length,
        "bytes": queue.max_length_bytes,
        "deliveries": queue.delivery_limit,
        "priority": queue.max_priority,
        "attempts": queue.retry and queue.retry.attempts,
    }
    words += [f"{name} {limit}" for name, limit in limits.items() if limit not in (None, False)]
    words += ["single active consumer"] * bool(queue.single_active_consumer)
    return tuple(" · ".join(words[start : start + 3]) for start in range(0, len(words), 3))


def _binding_labels(binding: Binding) -> tuple[str, ...]:
    arguments = ", ".join(f"{name}={value}" for name, value in binding.arguments.items())
    keys = [key for key in binding.keys if key or binding.routing_keys]
    if not arguments:
        return tuple(keys)
    return tuple(f"{key} ({arguments})" for key in keys) if keys else (arguments,)


class _DeadParts:
    """Exchanges (by name) and queues (by id) that only dead letters reach."""

    def __init__(self, topology: ExpandedTopology, deaths: Collection[Hop]) -> None:
        self._topology = topology
        keys = {death.routing_key for death in deaths if death.destination == ""} - {""}
        self.exchanges = self._dead_exchanges({death.destination for death in deaths} - {""})
        self.queues: set[str] = set()
        for block in blocks(topology):
            sources = self._sources("queue", block.holder.bindings)
            for key, queue in block.holder.queues.items():
                is_fed = sources[key] <= self.exchanges if key in sources else queue.name in keys
                if is_fed or queue.purpose != "main":
                    self.queues.add(block.id_of(key))

    def _dead_exchanges(self, dead: set[str]) -> set[str]:
        name_of = self._topology.exchange_name
        used = {
            name_of(contract.exchange)
            for block in blocks(self._topology)
            for contract in block.holder.messages.values()
        }
        for exchange in self._topology.exchanges.values():
            if exchange.alternate_exchange is not None:
                used.add(name_of(exchange.alternate_exchange))
        feeders = self._sources("exchange", self._topology.bindings)
        dead -= used
        while True:
            dead = {name for name in dead if feeders.get(name, set()) <= dead}
            behind = {name for name, sources in feeders.items() if sources <= dead} - used
            if behind <= dead:
                return dead
            dead |= behind

    def _sources(
        self, kind: Literal["exchange", "queue"], bindings: Iterable[Binding]
    ) -> Mapping[str, set[str]]:
        """The exchanges bound to each exchange, by name, or to each queue, by key."""
        sources: dict[str, set[str]] = {}
        for binding in bindings:
            source, target = self._topology.exchange_name(binding.source), binding.destination
            if kind == "exchange":
                target = self._topology.exchange_name(target)
            if binding.destination_type == kind and (kind == "queue" or source != target):
                sources.setdefault(target, set()).add(source)
        return sources


class Marks:
    """Numbers of findings, from 1 on, by the path of what they are about."""

    def __init__(self, topology: ExpandedTopology, findings: Sequence[Finding]) -> None:
        self._topology = topology
        self._numbers = grouped(
            (path, number)
            for number, finding in enumerate(findings, 1)
            for path in _enclosing(finding.where.path)
        )

    def of(self, *paths: Path) -> tuple[int, ...]:
        """Numbers of the findings about what stands at these paths of the expanded topology.

        What the library added has no place of its own: findings lead to what was written.
        """
        found = (number for path in paths for number in self._of(path)) if self._numbers else ()
        return tuple(dict.fromkeys(found))

    def _of(self, path: Path) -> Sequence[int]:
        written = self._topology.where(*path).path
        own = written == path_text(path) or re.search(r"bindings\[\d+\]$", written)
        return self._numbers.get(written, ()) if own else ()


def _enclosing(path: str) -> Iterator[str]:
    """``queues.a.ttl``, then ``queues.a``, but not ``queues``: a finding about a whole section
    marks none of its nodes."""
    quoted = '"(?:[^"]*)"'
    steps = re.findall(rf"^[^.\[\"]+|\.{quoted}|\.[^.\[\"]+|\[\d+\]", path)
    for length in range(len(steps), 1, -1):
        yield "".join(steps[:length])

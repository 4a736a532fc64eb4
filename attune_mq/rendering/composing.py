"""A topology as a diagram: its nodes and edges, and the text on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from attune_mq.rendering.diagram import DEAD, MAIN, Diagram, Edge, EdgeKind, Finding, Node, NodeKind
from attune_mq.rendering.parts import Block, DeadParts, blocks, dead_letter_target
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.declarations import exchange_arguments
from attune_mq.topology.durations import format_duration
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Binding, Exchange, Queue
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


class _Composer:
    def __init__(self, topology: ExpandedTopology, findings: Sequence[Finding]) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str, EdgeKind], Edge] = {}
        self._topology = topology
        self._marks = Marks(topology, findings)
        queues = [
            (block.id_of(key), queue)
            for block in blocks(topology)
            for key, queue in block.holder.queues.items()
        ]
        self._queue_ids = {queue.name: node_id for node_id, queue in queues if queue.name}
        targets = {node_id: dead_letter_target(topology, queue) for node_id, queue in queues}
        self._targets = {node_id: target for node_id, target in targets.items() if target}
        self._dead = DeadParts(topology, self._targets.values())

    # nodes

    def add_exchanges(self) -> None:
        for key, exchange in self._topology.exchanges.items():
            marks = self._marks.of(("exchanges", key))
            self._add_exchange(exchange.name, _exchange_details(exchange), marks)
        for exchange in self._topology.exchanges.values():
            alternate = exchange_arguments(self._topology, exchange).get("alternate-exchange")
            if isinstance(alternate, str):
                source, target = self._exchange(exchange.name), self._exchange(alternate)
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
        target = self._targets.get(node_id)
        if target is None or target.exchange == "" or target.routing_key in (None, queue.name):
            return ()
        return (f"dead letters with key {target.routing_key}",)

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
            target = self._targets.get(source)
            if target is None:
                continue
            if target.exchange != "":
                end = self._exchange(target.exchange)
            elif target.routing_key in self._queue_ids:
                end = self._queue_ids[target.routing_key]
            else:
                continue
            if queue.purpose == "retry":
                self._edge(Edge(end, source, EdgeKind.RETRY, tooltip="to wait before a retry"))
                self._edge(Edge(source, end, EdgeKind.RETRY, tooltip="to be tried again"))
            else:
                with_key = "" if target.routing_key is None else f"with key {target.routing_key}"
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


class Marks:
    """Numbers of findings, from 1 on, by the path of what they are about."""

    def __init__(self, topology: ExpandedTopology, findings: Sequence[Finding]) -> None:
        self._topology = topology
        self._numbers: dict[str, list[int]] = {}
        for number, finding in enumerate(findings, 1):
            for path in _enclosing(finding.where.path):
                self._numbers.setdefault(path, []).append(number)

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

"""A topology as a picture: which nodes and edges there are, and what stands on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from attune_mq.rendering.marks import Finding, Marks
from attune_mq.rendering.parts import Block, DeadParts, blocks, dead_letter_way
from attune_mq.rendering.picture import (
    DEAD,
    MAIN,
    Edge,
    EdgeKind,
    Node,
    NodeKind,
    Picture,
)
from attune_mq.topology.contracts import ConsumerSpec, MessageContract
from attune_mq.topology.declarations import exchange_arguments
from attune_mq.topology.durations import format_duration
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Binding, Exchange, Queue

DEFAULT_EXCHANGE_TITLE = "default exchange"


def compose(topology: Topology, findings: Sequence[Finding] = ()) -> Picture:
    """The picture of a topology with the findings about it."""
    composing = _Composing(expand(topology), findings)
    composing.add_exchanges()
    for block in blocks(composing.topology):
        composing.add_queues(block)
        composing.add_bindings(block)
        composing.add_messages(block)
        composing.add_consumers(block)
    for block in blocks(composing.topology):
        composing.add_ways_back(block)
    families = {key: family.parameters for key, family in composing.topology.families.items()}
    return Picture(
        composing.nodes, tuple(composing.edges.values()), families, composing.marks.notes
    )


class _Composing:
    def __init__(self, topology: ExpandedTopology, findings: Sequence[Finding]) -> None:
        self.topology = topology
        self.marks = Marks(topology, findings)
        self.dead = DeadParts(topology)
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str, EdgeKind], Edge] = {}
        self._queue_ids = {
            queue.name: block.id_of(key)
            for block in blocks(topology)
            for key, queue in block.holder.queues.items()
            if queue.name
        }

    # nodes

    def add_exchanges(self) -> None:
        for key, exchange in self.topology.exchanges.items():
            self._add(
                Node(
                    _exchange_id(exchange.name),
                    NodeKind.EXCHANGE,
                    exchange.name,
                    _exchange_details(exchange),
                    part=self._part_of_exchange(exchange.name),
                    marks=self.marks.of(("exchanges", key)),
                )
            )
        for exchange in self.topology.exchanges.values():
            alternate = exchange_arguments(self.topology, exchange).get("alternate-exchange")
            if isinstance(alternate, str):
                self._join(exchange.name, self._exchange(alternate), EdgeKind.ALTERNATE)

    def _exchange(self, name: str) -> str:
        """The id of an exchange; of one that is not in the file there is a node from now on."""
        node_id = _exchange_id(name)
        if node_id not in self.nodes:
            known = name == "" or name in BUILT_IN_EXCHANGES
            kind = BUILT_IN_EXCHANGES.get(name, "direct")
            node = Node(
                node_id,
                NodeKind.EXCHANGE,
                name or DEFAULT_EXCHANGE_TITLE,
                (f"{kind} · built in",) if known else (),
                () if known else ("not declared",),
                part=self._part_of_exchange(name),
                is_missing=not known,
            )
            self._add(node)
        return node_id

    def _part_of_exchange(self, name: str) -> str:
        return DEAD if name in self.dead.exchanges else MAIN

    def add_queues(self, block: Block) -> None:
        for key, queue in block.holder.queues.items():
            node_id = block.id_of(key)
            self._add(
                Node(
                    node_id,
                    NodeKind.QUEUE,
                    queue.name or key,
                    _queue_details(queue),
                    self._dead_letter_details(queue),
                    part=DEAD if node_id in self.dead.queues else block.family,
                    marks=self.marks.of((*block.path, "queues", key)),
                )
            )

    def _dead_letter_details(self, queue: Queue) -> tuple[str, ...]:
        """Only what the arrow does not say: a key that is not the name of the queue itself."""
        way = dead_letter_way(self.topology, queue)
        if way is None or way.exchange == "" or way.routing_key in (None, queue.name):
            return ()
        return (f"dead letters with key {way.routing_key}",)

    def add_consumers(self, block: Block) -> None:
        """One node for each service at a queue, with the tags of its consumers."""
        groups: dict[tuple[str, str], list[tuple[str, ConsumerSpec]]] = {}
        for tag, spec in block.holder.consumers.items():
            groups.setdefault((spec.service, spec.queue), []).append((tag, spec))
        for (service, queue), consumers in groups.items():
            queue_id = block.id_of(queue)
            node = Node(
                f"consumer {service} of {queue_id}",
                NodeKind.CONSUMER,
                service,
                tuple(tag for tag, _ in consumers),
                part=self.nodes[queue_id].part,
                marks=self._all_marks((*block.path, "consumers", tag) for tag, _ in consumers),
            )
            self._add(node)
            self._edge(Edge(queue_id, node.id, EdgeKind.CONSUME, tooltip=_how_fast(consumers)))

    def _add(self, node: Node) -> None:
        self.nodes[node.id] = node

    def _all_marks(self, paths: Iterator[tuple[str | int, ...]]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(number for path in paths for number in self.marks.of(path)))

    # edges

    def _edge(self, edge: Edge) -> None:
        """Two edges of a kind between the same ends are one with the labels of both."""
        key = (edge.source, edge.target, edge.kind)
        other = self.edges.get(key)
        if other is not None:
            edge = replace(
                edge,
                labels=tuple(dict.fromkeys((*other.labels, *edge.labels))),
                tooltip="\n".join(filter(None, dict.fromkeys((other.tooltip, edge.tooltip)))),
                marks=tuple(dict.fromkeys((*other.marks, *edge.marks))),
            )
        self.edges[key] = edge

    def _join(self, exchange: str, target: str, kind: EdgeKind) -> None:
        self._edge(Edge(self._exchange(exchange), target, kind))

    def add_bindings(self, block: Block) -> None:
        for index, binding in enumerate(block.holder.bindings):
            source = self._exchange(self.topology.exchange_name(binding.source))
            if binding.destination_type == "exchange":
                target = self._exchange(self.topology.exchange_name(binding.destination))
            else:
                target = block.id_of(binding.destination)
            marks = self.marks.of((*block.path, "bindings", index))
            labels = _binding_labels(binding)
            self._edge(Edge(source, target, EdgeKind.BINDING, labels, "", marks))

    def add_messages(self, block: Block) -> None:
        for message_type, contract in block.holder.messages.items():
            name = self.topology.exchange_name(contract.exchange)
            marks = self.marks.of((*block.path, "messages", message_type))
            for service in contract.publishers:
                node_id = f"service {service}"
                if node_id not in self.nodes:
                    self._add(Node(node_id, NodeKind.SERVICE, service))
                tooltip = _what_is_published(message_type, contract)
                labels = (message_type,)
                exchange = self._exchange(name)
                self._edge(Edge(node_id, exchange, EdgeKind.PUBLISH, labels, tooltip, marks))
            if name == "" and contract.routing_key in self._queue_ids:
                queue = self._queue_ids[contract.routing_key]
                self._join(name, queue, EdgeKind.BINDING)

    def add_ways_back(self, block: Block) -> None:
        for key, queue in block.holder.queues.items():
            way = dead_letter_way(self.topology, queue)
            if way is None:
                continue
            source = block.id_of(key)
            if way.exchange != "":
                target = self._exchange(way.exchange)
            elif way.routing_key in self._queue_ids:
                target = self._queue_ids[way.routing_key]
            else:
                continue
            if queue.purpose == "retry":
                self._edge(Edge(target, source, EdgeKind.RETRY, tooltip="to wait before a retry"))
                self._edge(Edge(source, target, EdgeKind.RETRY, tooltip="to be tried again"))
            else:
                self._edge(Edge(source, target, EdgeKind.DEAD_LETTER, tooltip=_with_key(way)))


def _exchange_id(name: str) -> str:
    return f"exchange {name}"


def _exchange_details(exchange: Exchange) -> tuple[str, ...]:
    said = [exchange.type]
    said += ["internal"] * exchange.internal
    said += ["auto-delete"] * exchange.auto_delete
    said += [] if exchange.durable else ["transient"]
    return (" · ".join(said),)


def _queue_details(queue: Queue) -> tuple[str, ...]:
    said: list[str] = [queue.type] if queue.type else []
    said += ["named by the server"] * queue.is_server_named
    said += ["exclusive"] * queue.exclusive
    said += ["auto-delete"] * queue.auto_delete
    said += [] if queue.durable else ["transient"]
    limits = {
        "ttl": queue.ttl_ms is not None and format_duration(queue.ttl_ms or 0),
        "expires": queue.expires_ms is not None and format_duration(queue.expires_ms or 0),
        "length": queue.max_length,
        "bytes": queue.max_length_bytes,
        "deliveries": queue.delivery_limit,
        "priority": queue.max_priority,
        "attempts": queue.retry and queue.retry.attempts,
    }
    said += [f"{name} {limit}" for name, limit in limits.items() if limit not in (None, False)]
    said += ["single active consumer"] * bool(queue.single_active_consumer)
    return tuple(" · ".join(said[start : start + 3]) for start in range(0, len(said), 3))


def _binding_labels(binding: Binding) -> tuple[str, ...]:
    arguments = _told(binding.arguments)
    keys = [key for key in binding.keys if key or binding.routing_keys]
    if not arguments:
        return tuple(keys)
    return tuple(f"{key} ({arguments})" for key in keys) if keys else (arguments,)


def _told(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _how_fast(consumers: Sequence[tuple[str, ConsumerSpec]]) -> str:
    return "\n".join(f"{tag}: prefetch {spec.prefetch_count}" for tag, spec in consumers)


def _what_is_published(message_type: str, contract: MessageContract) -> str:
    return f"{message_type} [{contract.routing_key}]"


def _with_key(way: Any) -> str:
    return "" if way.routing_key is None else f"with key {way.routing_key}"

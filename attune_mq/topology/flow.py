"""Which message types can arrive where, from what the file says: who publishes which type with
which key, and who consumes which queue. The base of checks that need no broker.

Families take part with their templates taken literally: ``worker.{worker_id}.cancel`` is a queue
like any other, and ``{worker_id}`` one opaque word. Paths are those of
:attr:`Flow.topology`, so that ``flow.topology.where(*path)`` is the place in the file:
``("queues", "executions")``, ``("families", "worker", "bindings", 0)``.

What *can* happen is taken to happen. A file does not say which headers a message has, so a
headers exchange may give it to all of its bindings and to its alternate exchange, and an exchange
of a plugin's type likewise. A dead letter may die of any reason, also where the cycle rule of
RabbitMQ would drop it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attune_mq.topology.contracts import MessageContract
from attune_mq.topology.dead_lettering import DeadLetter, Death, Reason, bury
from attune_mq.topology.expansion import DEFAULT_EXCHANGE, expand
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.network import Network, QueueNode, blocks
from attune_mq.topology.patterns import is_wildcard
from attune_mq.topology.source import Path


@dataclass(frozen=True)
class Publication:
    """One entry of ``messages``, of the file or of a family, in the broker's names."""

    message_type: str
    exchange: str
    routing_key: str
    publishers: tuple[str, ...]
    path: Path
    queues: frozenset[Path]
    """The queues that the message gets into when it is published; dead letters not counted."""


@dataclass(frozen=True)
class Flow:
    """The way of every message type through a topology."""

    topology: ExpandedTopology
    publications: tuple[Publication, ...]
    arrivals: Mapping[Path, frozenset[str]]
    """For each queue, those of families included, the message types that can arrive in it:
    published, dead-lettered or sent back for another try. Empty where none can."""
    routing_keys: Mapping[Path, frozenset[str]]
    """For each queue the routing keys with which messages of the file can arrive in it."""
    used_bindings: frozenset[Path]
    """The bindings by which a message of the file can come, dead or alive."""
    _network: Network = field(repr=False, compare=False)

    def destinations(self, message_type: str) -> frozenset[Path]:
        """The queues that messages of this type get into when they are published."""
        queues = (p.queues for p in self.publications if p.message_type == message_type)
        return frozenset().union(*queues)

    def deliveries(self) -> Mapping[Path, frozenset[str]]:
        """For each consumer the message types that can arrive at it."""
        return {
            (*at, "consumers", tag): self.arrivals[(*at, "queues", spec.queue)]
            for at, block in blocks(self.topology)
            for tag, spec in block.consumers.items()
        }

    def unmatched_bindings(self) -> tuple[Path, ...]:
        """The bindings that nothing published by the file's ``messages`` can ever match, in the
        order of the file. Without any ``messages``, that is all of them."""
        return tuple(
            path
            for at, block in blocks(self.topology)
            for index in range(len(block.bindings))
            if (path := (*at, "bindings", index)) not in self.used_bindings
        )

    def resting_places(self, queue: Path, reason: Reason = "rejected") -> tuple[Death, ...]:
        """What becomes in the end of messages that die in ``queue``, by way of queues in which
        they expire: one answer for each routing key with which messages can be there.

        A queue that gives dead letters a key of its own has one answer. Where the file's
        ``messages`` bring nothing there, the keys of the queue's bindings are taken, those with
        wildcards left out; where there is none either, nothing is known and nothing answered.
        """
        node = self._network.queues[self._network.queue_names[queue]]
        keys = [node.death.routing_key] if node.death and node.gives_key else self._keys(queue)
        letters = (DeadLetter((key,), headers=None) for key in keys)
        return tuple(bury(self._network, node, each, reason, follow=True) for each in letters)

    def _keys(self, queue: Path) -> list[str]:
        known = self.routing_keys[queue]
        if known or self.publications:
            return sorted(known)
        at, key = queue[:-2], queue[-1]
        block = dict(blocks(self.topology))[at]
        bindings = (
            b for b in block.bindings if (b.destination_type, b.destination) == ("queue", key)
        )
        return sorted({b.routing_key for b in bindings if not is_wildcard(b.routing_key)})


def trace(topology: Topology) -> Flow:
    """Follow every message of the file's ``messages``, those of families included."""
    network = Network(expand(topology), with_families=True)
    tracing = _Tracing(network)
    publications = tuple(
        tracing.publication(message_type, contract, (*at, "messages", message_type))
        for at, block in blocks(network.topology)
        for message_type, contract in block.messages.items()
    )
    tracing.follow()
    return Flow(
        topology=network.topology,
        publications=publications,
        arrivals={path: frozenset(types) for path, types in tracing.arrivals.items()},
        routing_keys={path: frozenset(keys) for path, keys in tracing.routing_keys.items()},
        used_bindings=frozenset(tracing.used_bindings),
        _network=network,
    )


class _Tracing:
    """What has been found out on the way."""

    def __init__(self, network: Network) -> None:
        self.arrivals: dict[Path, set[str]] = {path: set() for path in network.queue_names}
        self.routing_keys: dict[Path, set[str]] = {path: set() for path in network.queue_names}
        self.used_bindings: set[Path] = set()
        self._network = network
        self._seen: set[tuple[str, str, str]] = set()
        self._waiting: list[tuple[QueueNode, str, str]] = []

    def publication(self, message_type: str, contract: MessageContract, path: Path) -> Publication:
        exchange = self._network.topology.exchange_name(contract.exchange)
        queues = self._spread(exchange, contract.routing_key, message_type)
        return Publication(
            message_type, exchange, contract.routing_key, contract.publishers, path, queues
        )

    def follow(self) -> None:
        """From each queue reached so far, dead or sent by its consumer to wait for another try."""
        while self._waiting:
            node, key, message_type = self._waiting.pop()
            if node.death is not None:
                next_key = node.death.routing_key if node.gives_key else key
                self._spread(node.death.destination, next_key, message_type)
            for name in node.retry_queues:
                self._spread(DEFAULT_EXCHANGE, name, message_type)

    def _spread(self, exchange: str, key: str, message_type: str) -> frozenset[Path]:
        reached = self._network.reached(exchange, (key,), None)
        self.used_bindings.update(hop.path for hop in reached.taken if hop.via == "binding")
        nodes = [self._network.queues[way[-1].destination] for way in reached.ways]
        for node in nodes:
            self._arrive(node, key, message_type)
        return frozenset(node.path for node in nodes)

    def _arrive(self, node: QueueNode, key: str, message_type: str) -> None:
        self.arrivals[node.path].add(message_type)
        self.routing_keys[node.path].add(key)
        if (node.name, key, message_type) not in self._seen:
            self._seen.add((node.name, key, message_type))
            self._waiting.append((node, key, message_type))

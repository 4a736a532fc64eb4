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
from attune_mq.topology.expansion import DEFAULT_EXCHANGE, expand
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.network import Network, QueueNode
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
    """The path of every message type through a topology."""

    publications: tuple[Publication, ...]
    arrivals: Mapping[Path, frozenset[str]]
    """For each queue, those of families included, the message types that can arrive in it:
    published, dead-lettered or sent back for another try. Empty where none can."""
    routing_keys: Mapping[Path, frozenset[str]]
    """For each queue the routing keys with which messages of the file can arrive in it."""
    used_bindings: frozenset[Path]
    """The bindings by which a message of the file can come, dead or alive."""
    network: Network = field(repr=False, compare=False)

    @property
    def topology(self) -> ExpandedTopology:
        return self.network.topology


def trace(topology: Topology) -> Flow:
    """Follow every message of the file's ``messages``, those of families included."""
    network = Network(expand(topology), with_families=True)
    tracing = _Tracing(network)
    publications = tuple(
        tracing.publication(message_type, contract, (*at, "messages", message_type))
        for at, block in network.blocks
        for message_type, contract in block.messages.items()
    )
    tracing.follow()
    return Flow(
        publications=publications,
        arrivals={path: frozenset(types) for path, types in tracing.arrivals.items()},
        routing_keys={path: frozenset(keys) for path, keys in tracing.routing_keys.items()},
        used_bindings=frozenset(tracing.used_bindings),
        network=network,
    )


class _Tracing:
    """What has been found out on the way."""

    def __init__(self, network: Network) -> None:
        self.arrivals: dict[Path, set[str]] = {path: set() for path in network.queue_at}
        self.routing_keys: dict[Path, set[str]] = {path: set() for path in network.queue_at}
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
        nodes = [self._network.queues[path[-1].destination] for path in reached.paths]
        for node in nodes:
            self._arrive(node, key, message_type)
        return frozenset(node.path for node in nodes)

    def _arrive(self, node: QueueNode, key: str, message_type: str) -> None:
        self.arrivals[node.path].add(message_type)
        self.routing_keys[node.path].add(key)
        if (node.name, key, message_type) not in self._seen:
            self._seen.add((node.name, key, message_type))
            self._waiting.append((node, key, message_type))

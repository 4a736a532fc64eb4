"""Exchanges, queues and what connects them, indexed once for fast routing.

Names are the broker's. Bindings to what does not exist are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attune_mq.topology.arguments import (
    ALTERNATE_EXCHANGE,
    CLASSIC,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    DEAD_LETTER_STRATEGY,
    MESSAGE_TTL,
    OVERFLOW,
    QUEUE_TYPE,
    STREAM,
    Version,
    release,
)
from attune_mq.topology.declaration import exchange_arguments, queue_arguments
from attune_mq.topology.exchange_types import BindingTable, Headers, Hop, binding_table
from attune_mq.topology.expansion import DEFAULT_EXCHANGE, retry_queue_name
from attune_mq.topology.model import ExpandedTopology
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Binding, Queue
from attune_mq.topology.reachability import grouped
from attune_mq.topology.source import Path

TRACE = "amq.rabbitmq.trace"
"""The built-in exchange to which the broker alone publishes."""

_REQUIRED_TO_HOLD = {
    QUEUE_TYPE: "quorum",
    OVERFLOW: "reject-publish",
    DEAD_LETTER_STRATEGY: "at-least-once",
}
"""Without the others, at-least-once dead-lettering silently is at-most-once."""

HopPath = tuple[Hop, ...]
"""The steps of a message from where it was published, or died, to a queue."""


class ExchangeNode(NamedTuple):
    name: str
    internal: bool
    bindings: BindingTable
    alternate: Hop | None
    """The step to the exchange that takes what no binding takes."""


class QueueNode(NamedTuple):
    """A queue of the file or of a family."""

    path: Path
    name: str
    """The broker's; of a queue that the server names, one that nothing else can have."""
    queue: Queue
    arguments: Mapping[str, Any]
    """What it is declared with."""
    death: Hop | None
    """The step to the queue's dead letter exchange."""

    @property
    def type(self) -> str:
        """Without a type of its own it is of the virtual host's default type: classic, mostly."""
        return str(self.arguments.get(QUEUE_TYPE, CLASSIC))

    @property
    def is_shared(self) -> bool:
        """Not one that comes and goes with the connection or the consumer that uses it."""
        return not self.queue.belongs_to_a_connection and not self.queue.auto_delete

    @property
    def is_of_family(self) -> bool:
        return self.path[0] == "families"

    @property
    def gives_key(self) -> bool:
        """Whether dead letters get the key of ``death`` instead of keeping their own."""
        return self.arguments.get(DEAD_LETTER_ROUTING_KEY) is not None

    @property
    def holds_back(self) -> bool:
        """At-least-once dead-lettering: an unroutable dead letter stays in the queue, uncounted."""
        return self.arguments.items() >= _REQUIRED_TO_HOLD.items()

    @property
    def retry_queues(self) -> list[str]:
        """Where the library's consumers send what is to be tried again later."""
        delays_ms = self.queue.retry.backoff_ms if self.queue.retry else ()
        return [retry_queue_name(self.name, delay_ms) for delay_ms in dict.fromkeys(delays_ms)]


class Reached(NamedTuple):
    """Where a message went from one exchange."""

    paths: list[HopPath]
    taken: list[Hop]
    """Every binding that took it, those included that lead to no queue."""
    dead_ends: list[str]
    """Exchanges that it came to where no binding took it, nor an alternate exchange."""
    unsimulated: list[str]
    """Exchanges of a plugin's type on the way; what lies behind them is left out."""


class Network:
    """``with_families`` takes the templates of families literally: ``worker.{worker_id}.cancel``
    is then a queue, and ``{worker_id}`` one word like any other."""

    def __init__(
        self,
        topology: ExpandedTopology,
        *,
        with_families: bool = False,
        broker_version: str | None = None,
    ) -> None:
        self.topology = topology
        stated = topology.broker.version if topology.broker else ""
        self.broker_version: Version = release(broker_version or stated)
        self.blocks = topology.blocks() if with_families else topology.blocks()[:1]
        self.queue_at = {
            path: self._queue(path, queue)
            for at, block in self.blocks
            for key, queue in block.queues.items()
            for path in [(*at, "queues", key)]
        }
        self.queues = {node.name: node for node in self.queue_at.values()}
        self._by_default = {
            name: Hop(DEFAULT_EXCHANGE, name, "queue", "default exchange", name)
            for name in self.queues
        }
        self.bindings = [
            hop
            for at, block in self.blocks
            for index, binding in enumerate(block.bindings)
            if (hop := self._binding(binding, at, index)) is not None
        ]
        self.exchanges = self._exchanges()

    def reached(self, exchange: str, keys: Sequence[str], headers: Headers | None) -> Reached:
        """The queues to which ``exchange`` brings a message, a path for each binding that does.

        Each exchange routes a message once, by whichever path it came. Without ``headers``, all
        that may happen whatever they are. An exchange that does not exist brings it nowhere, and
        so does the default exchange as another's alternate (measured on 3.10).
        """
        if exchange == DEFAULT_EXCHANGE:
            return self._reached_by_default(keys)
        reached = Reached([], [], [], [])
        seen = {exchange}
        waiting: list[tuple[str, HopPath]] = [(exchange, ())]
        while waiting:
            name, path = waiting.pop()
            hops = self._hops(name, keys, headers, reached)
            reached.taken.extend(hops)
            for hop in hops:
                if hop.destination_type == "queue":
                    reached.paths.append((*path, hop))
                elif hop.destination not in seen:
                    seen.add(hop.destination)
                    waiting.append((hop.destination, (*path, hop)))
        return reached

    def has_exchange(self, name: str) -> bool:
        return name == DEFAULT_EXCHANGE or name in self.exchanges

    def expires(self, queue: QueueNode) -> bool:
        """Whether a message that waits there long enough goes on as a dead letter."""
        death, ttl_ms = queue.death, queue.arguments.get(MESSAGE_TTL)
        return (
            isinstance(ttl_ms, int) and death is not None and self.has_exchange(death.destination)
        )

    def _hops(
        self, name: str, keys: Sequence[str], headers: Headers | None, reached: Reached
    ) -> Sequence[Hop]:
        """What takes a message at one exchange."""
        node = self.exchanges.get(name)
        if node is None:
            reached.dead_ends.append(name)
            return ()
        table = node.bindings
        if headers is None:
            hops, may_miss = table.possible(keys), not table.by_key_alone
        elif table.is_simulated:
            hops, may_miss = table.matched(keys, headers), False
        else:
            reached.unsimulated.append(name)
            return ()
        if hops and not may_miss:
            return hops
        if node.alternate is not None:
            return [*hops, node.alternate]
        if not hops:
            reached.dead_ends.append(name)
        return hops

    def _reached_by_default(self, keys: Sequence[str]) -> Reached:
        hops = [self._by_default[key] for key in dict.fromkeys(keys) if key in self._by_default]
        dead_ends = [] if hops else [DEFAULT_EXCHANGE]
        return Reached([(hop,) for hop in hops], hops, dead_ends, [])

    def _exchanges(self) -> dict[str, ExchangeNode]:
        topology = self.topology
        bindings = grouped((hop.source, hop) for hop in self.bindings)
        nodes = {
            name: ExchangeNode(name, name == TRACE, binding_table(kind, bindings[name]), None)
            for name, kind in BUILT_IN_EXCHANGES.items()
        }
        for key, exchange in topology.exchanges.items():
            name = exchange.name
            table = binding_table(exchange.type, bindings[name])
            alternate = self._alternate(key)
            nodes[name] = ExchangeNode(name, exchange.internal, table, alternate)
        return nodes

    def _alternate(self, key: str) -> Hop | None:
        exchange = self.topology.exchanges[key]
        to = exchange_arguments(self.topology, exchange).get(ALTERNATE_EXCHANGE)
        if not isinstance(to, str):
            return None
        path = ("exchanges", key, "alternate_exchange")
        return Hop(exchange.name, to, "exchange", "alternate exchange", path=path)

    def _binding(self, binding: Binding, at: Path, index: int) -> Hop | None:
        source, kind = self.topology.exchange_name(binding.source), binding.destination_type
        if kind == "exchange":
            destination = self.topology.exchange_name(binding.destination)
        elif queue := self.queue_at.get((*at, "queues", binding.destination)):
            destination = queue.name
        else:
            return None
        path = (*at, "bindings", index)
        return Hop(
            source, destination, kind, "binding", binding.routing_key, binding.arguments, path
        )

    def _queue(self, path: Path, queue: Queue) -> QueueNode:
        arguments = queue_arguments(self.topology, queue)
        name = queue.name or f"<server-named {path[-1]}>"
        to, key = arguments.get(DEAD_LETTER_EXCHANGE), arguments.get(DEAD_LETTER_ROUTING_KEY)
        death = None
        if isinstance(to, str) and queue.type != STREAM:
            at = (*path, "dead_letter")
            death = Hop(name, to, "exchange", "dead letter", key or "", path=at)
        return QueueNode(path, name, queue, arguments, death)

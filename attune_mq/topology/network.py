"""Exchanges, queues and what connects them, indexed once for fast routing.

Names are the broker's. Bindings from, or to, what is not there do not exist on a broker either,
and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attune_mq.topology.arguments import (
    ALTERNATE_EXCHANGE,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    DEAD_LETTER_STRATEGY,
    MESSAGE_TTL,
    OVERFLOW,
    QUEUE_TYPE,
    Version,
    release,
)
from attune_mq.topology.declarations import exchange_arguments, queue_arguments
from attune_mq.topology.exchange_types import BindingTable, Headers, Hop, binding_table
from attune_mq.topology.expansion import DEFAULT_EXCHANGE, retry_queue_name
from attune_mq.topology.model import ExpandedTopology
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Binding, Queue
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
    name: str
    path: Path
    ttl_ms: int | None
    death: Hop | None
    """The step to the queue's dead letter exchange."""
    gives_key: bool
    """Whether dead letters get the key of ``death`` instead of keeping their own."""
    holds_back: bool
    """At-least-once dead-lettering: an unroutable dead letter stays in the queue, uncounted."""
    retry_queues: tuple[str, ...] = ()
    """Where the library's consumers send what is to be tried again later."""


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
        self.queue_names = {
            (*at, "queues", key): queue.name or f"<server-named {key}>"
            for at, block in self.blocks
            for key, queue in block.queues.items()
        }
        self._by_default = {
            name: Hop(DEFAULT_EXCHANGE, name, "queue", "default exchange", name)
            for name in self.queue_names.values()
        }
        self.exchanges = self._exchanges()
        self.queues = {
            self.queue_names[(*at, "queues", key)]: self._queue((*at, "queues", key), queue)
            for at, block in self.blocks
            for key, queue in block.queues.items()
        }

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
        death = queue.death
        return (
            queue.ttl_ms is not None and death is not None and self.has_exchange(death.destination)
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
        bindings: dict[str, list[Hop]] = {}
        for at, block in self.blocks:
            for index, binding in enumerate(block.bindings):
                hop = self._binding(binding, at, index)
                if hop is not None:
                    bindings.setdefault(hop.source, []).append(hop)
        nodes = {
            name: ExchangeNode(
                name, name == TRACE, binding_table(kind, bindings.get(name, ())), None
            )
            for name, kind in BUILT_IN_EXCHANGES.items()
        }
        for key, exchange in topology.exchanges.items():
            name = exchange.name
            table = binding_table(exchange.type, bindings.get(name, ()))
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
        source = self.topology.exchange_name(binding.source)
        if binding.destination_type == "exchange":
            destination: str | None = self.topology.exchange_name(binding.destination)
        else:
            destination = self.queue_names.get((*at, "queues", binding.destination))
        if destination is None:
            return None
        kind, key, arguments = binding.destination_type, binding.routing_key, binding.arguments
        return Hop(source, destination, kind, "binding", key, arguments, (*at, "bindings", index))

    def _queue(self, path: Path, queue: Queue) -> QueueNode:
        arguments = queue_arguments(self.topology, queue)
        name = self.queue_names[path]
        to, key = arguments.get(DEAD_LETTER_EXCHANGE), arguments.get(DEAD_LETTER_ROUTING_KEY)
        death = None
        if isinstance(to, str) and queue.type != "stream":
            at = (*path, "dead_letter")
            death = Hop(name, to, "exchange", "dead letter", key or "", path=at)
        ttl_ms = arguments.get(MESSAGE_TTL)
        delays = dict.fromkeys(queue.retry.backoff_ms if queue.retry else ())
        return QueueNode(
            name=name,
            path=path,
            ttl_ms=ttl_ms if isinstance(ttl_ms, int) else None,
            death=death,
            gives_key=key is not None,
            holds_back=_REQUIRED_TO_HOLD.items() <= arguments.items(),
            retry_queues=tuple(retry_queue_name(name, delay_ms) for delay_ms in delays),
        )

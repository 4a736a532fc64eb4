"""Which part of a diagram an object belongs to: the main one, a family, or dead letters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from attune_mq.topology.arguments import DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY
from attune_mq.topology.contracts import Family
from attune_mq.topology.declarations import queue_arguments
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import Binding, Queue
from attune_mq.topology.source import Path


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


class DeadLetterTarget(NamedTuple):
    """Where a queue publishes its dead letters, in the broker's names."""

    exchange: str
    routing_key: str | None


def dead_letter_target(topology: ExpandedTopology, queue: Queue) -> DeadLetterTarget | None:
    """By the queue's arguments, which include those that no key of the file can express."""
    arguments = queue_arguments(topology, queue)
    exchange = arguments.get(DEAD_LETTER_EXCHANGE)
    key = arguments.get(DEAD_LETTER_ROUTING_KEY)
    if not isinstance(exchange, str):
        return None
    return DeadLetterTarget(exchange, key if isinstance(key, str) else None)


class DeadParts:
    """Exchanges (by name) and queues (by id) that only dead letters reach."""

    def __init__(self, topology: ExpandedTopology, targets: Collection[DeadLetterTarget]) -> None:
        self._topology = topology
        keys = {target.routing_key for target in targets if target.exchange == ""}
        self.exchanges = self._dead_exchanges({target.exchange for target in targets} - {""})
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

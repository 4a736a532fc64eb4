"""Which part of a picture something belongs to: the main one, a family, or dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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


class DeadLetterWay(NamedTuple):
    """Where dead letters of a queue go, in the broker's names."""

    exchange: str
    routing_key: str | None


def dead_letter_way(topology: ExpandedTopology, queue: Queue) -> DeadLetterWay | None:
    """By the queue's arguments, which also hold what no key of the file can say."""
    arguments = queue_arguments(topology, queue)
    exchange = arguments.get(DEAD_LETTER_EXCHANGE)
    key = arguments.get(DEAD_LETTER_ROUTING_KEY)
    if not isinstance(exchange, str):
        return None
    return DeadLetterWay(exchange, key if isinstance(key, str) else None)


class DeadParts:
    """Exchanges (by name) and queues (by id) that only dead letters reach."""

    def __init__(self, topology: ExpandedTopology) -> None:
        self._topology = topology
        self._blocks = blocks(topology)
        self._ways = [
            (block.id_of(key), way)
            for block in self._blocks
            for key, queue in block.holder.queues.items()
            if (way := dead_letter_way(topology, queue)) is not None
        ]
        self.exchanges = self._dead_exchanges()
        self.queues = self._dead_queues()

    def _dead_exchanges(self) -> frozenset[str]:
        used = {
            self._topology.exchange_name(contract.exchange)
            for block in self._blocks
            for contract in block.holder.messages.values()
        }
        used |= {
            self._topology.exchange_name(exchange.alternate_exchange)
            for exchange in self._topology.exchanges.values()
            if exchange.alternate_exchange is not None
        }
        feeders = self._feeders()
        dead = {way.exchange for _, way in self._ways} - used - {""}
        while True:
            dead = {name for name in dead if feeders.get(name, set()) <= dead}
            behind = {name for name, sources in feeders.items() if sources <= dead} - used
            if behind <= dead:
                return frozenset(dead)
            dead |= behind

    def _feeders(self) -> Mapping[str, set[str]]:
        """The exchanges that are bound to each exchange."""
        feeders: dict[str, set[str]] = {}
        for binding in self._topology.bindings:
            if binding.destination_type == "exchange":
                target = self._topology.exchange_name(binding.destination)
                source = self._topology.exchange_name(binding.source)
                if source != target:
                    feeders.setdefault(target, set()).add(source)
        return feeders

    def _dead_queues(self) -> frozenset[str]:
        by_default_exchange = {way.routing_key for _, way in self._ways if way.exchange == ""}
        dead = set()
        for block in self._blocks:
            sources = self._sources(block.holder.bindings)
            for key, queue in block.holder.queues.items():
                feeding = sources.get(key)
                fed = feeding <= self.exchanges if feeding else queue.name in by_default_exchange
                if fed or queue.purpose != "main":
                    dead.add(block.id_of(key))
        return frozenset(dead)

    def _sources(self, bindings: tuple[Binding, ...]) -> Mapping[str, set[str]]:
        sources: dict[str, set[str]] = {}
        for binding in bindings:
            if binding.destination_type == "queue":
                name = self._topology.exchange_name(binding.source)
                sources.setdefault(binding.destination, set()).add(name)
        return sources

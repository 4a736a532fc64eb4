"""What is wanted on the broker, as one frozen value: no socket, no clock, no environment.

The keys of a file name things in code; ``name`` is what the broker sees. References from one
thing to another (the ``source`` of a binding, the ``queue`` of a consumer) are keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, PrivateAttr, StrictStr

from attune_mq.errors import InvalidInput
from attune_mq.topology import objects
from attune_mq.topology.contracts import ConsumerSpec, Family, MessageContract
from attune_mq.topology.fields import FrozenDict, FrozenMap, TopologyModel
from attune_mq.topology.source import Path, SourceMap, Where


class UnknownName(InvalidInput):
    """Code asked the topology for something that its file does not have."""


class QueueDefaults(TopologyModel):
    """What each queue is unless it says otherwise: main, dead letter and retry queues alike,
    but not queues that are exclusive, auto-delete or transient, which are classic always."""

    type: objects.QueueType | None = None


class Defaults(TopologyModel):
    queue: QueueDefaults = QueueDefaults()


class BrokerExpectation(TopologyModel):
    """The broker that the file is meant for; checks without a broker go by it."""

    version: Annotated[StrictStr, Field(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$")]


class Route(NamedTuple):
    """Where a message is published, in the broker's names. ``mandatory``: a queue must take it."""

    exchange: str
    routing_key: str
    mandatory: bool = True


class Topology(TopologyModel):
    """A topology file. Equal topologies say the same, wherever they were written."""

    version: Literal[1]
    broker: BrokerExpectation | None = None
    defaults: Defaults = Defaults()
    dead_letter: objects.DeadLetterRule = False
    exchanges: FrozenMap[objects.Exchange] = Field(default_factory=FrozenDict)
    queues: FrozenMap[objects.Queue] = Field(default_factory=FrozenDict)
    bindings: tuple[objects.Binding, ...] = ()
    messages: FrozenMap[MessageContract] = Field(default_factory=FrozenDict)
    consumers: FrozenMap[ConsumerSpec] = Field(default_factory=FrozenDict)
    families: FrozenMap[Family] = Field(default_factory=FrozenDict)

    parameters: ClassVar[tuple[str, ...]] = ()
    """It is the one block without any: what it says is there once."""
    _sources: SourceMap = PrivateAttr(default_factory=SourceMap)

    @property
    def sources(self) -> SourceMap:
        """Where in its file each thing stands."""
        return self._sources

    def blocks(self) -> list[tuple[Path, Block]]:
        """The file itself and each of its families, with the path at which its queues, bindings,
        messages and consumers stand."""
        return [((), self), *((("families", key), each) for key, each in self.families.items())]

    def where(self, *path: str | int) -> Where:
        """Where in its file ``path`` stands, such as ``"queues", "work"``, or else what is around
        it."""
        return self._sources.where(*path)

    def __eq__(self, other: object) -> bool:
        """By what they say alone: an expanded one equals the file that says all of it."""
        return isinstance(other, Topology) and self.__dict__ == other.__dict__

    def changed(self, sources: SourceMap, **parts: Any) -> Self:
        """With ``parts`` in place of its own, and ``sources`` for where they stand."""
        copy = super().model_copy(update=parts)
        copy._sources = sources  # noqa: SLF001 - it is of the same class
        return copy

    def exchange_name(self, key: str) -> str:
        """The broker's name of an exchange; ``""`` and ``amq.*`` are the built-in ones."""
        exchange = self.exchanges.get(key)
        return exchange.name if exchange else key

    def exchange_type(self, key: str) -> str:
        """Of one of the file's or a built-in one; ``direct``, as the default exchange is, else."""
        exchange = self.exchanges.get(key)
        return exchange.type if exchange else objects.BUILT_IN_EXCHANGES.get(key, "direct")

    def route(self, message_type: str) -> Route:
        """Where messages of this type are published.

        Raises :class:`UnknownName` when the file's ``messages`` do not have the type.
        """
        contract = self.messages.get(message_type)
        if contract is None:
            file = self._sources.file
            known = ", ".join(sorted(self.messages)) or "none"
            raise UnknownName(
                f"{file} messages: expected an entry for {message_type!r} that says its exchange "
                f"and routing_key, found only: {known}"
            )
        exchange = self.exchange_name(contract.exchange)
        return Route(exchange, contract.routing_key, contract.mandatory)

    def consumer(self, tag: str) -> ConsumerSpec:
        """Raises :class:`UnknownName` when the file's ``consumers`` do not have the tag."""
        spec = self.consumers.get(tag)
        if spec is None:
            known = ", ".join(sorted(self.consumers)) or "none"
            raise UnknownName(
                f"{self._sources.file} consumers: expected an entry {tag!r}, found only: {known}"
            )
        return spec


Block = Topology | Family


class ExpandedTopology(Topology):
    """A topology with every object in it that setup makes: only
    :func:`~attune_mq.topology.expansion.expand` makes one."""

    def model_copy(  # type: ignore[override] # other parts may need to be expanded again
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Topology:
        """A plain topology, since what ``update`` says is not expanded."""
        return Topology.model_construct(**{**dict(self), **(update or {})}).changed(self.sources)

"""What rules look up: one topology with its families beside it, indexed once.

The queues of a family stand for those of every instance: ``worker.{worker_id}.cancel`` is taken
as a name like any other, and ``{worker_id}`` as one word of a routing key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from attune_mq.topology.arguments import Version, key_of, release
from attune_mq.topology.contracts import ConsumerSpec, MessageContract
from attune_mq.topology.dead_lettering import DeadLetter, Death, Reason, simulate_dead_lettering
from attune_mq.topology.exchange_types import Hop, is_wildcard
from attune_mq.topology.expansion import DEFAULT_EXCHANGE
from attune_mq.topology.flow import Flow, Publication, trace
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.network import Network, QueueNode
from attune_mq.topology.objects import BUILT_IN_EXCHANGES
from attune_mq.topology.reachability import grouped, reachable
from attune_mq.topology.source import Path, Where

ANY_KEY = ".".join(["any-word"] * 9)
"""A key that a binding takes if it takes every key, and hardly otherwise."""


class ConsumerFact(NamedTuple):
    path: Path
    tag: str
    spec: ConsumerSpec
    queue: QueueNode


class Facts:
    """``written`` is the file as it stands, ``whole`` with all that the library adds."""

    def __init__(self, topology: Topology) -> None:
        self.written = topology
        stated = topology.broker
        self.version: Version | None = release(stated.version) if stated else None
        self._deaths: dict[tuple[Path, Reason], tuple[Death, ...]] = {}

    @cached_property
    def flow(self) -> Flow:
        """Which messages can arrive where, dead or alive."""
        return trace(self.written)

    @cached_property
    def whole(self) -> ExpandedTopology:
        return self.flow.topology

    @property
    def network(self) -> Network:
        return self.flow.network

    @cached_property
    def queues(self) -> tuple[QueueNode, ...]:
        return tuple(self.network.queue_at.values())

    @cached_property
    def bindings_to(self) -> Mapping[str, Sequence[Hop]]:
        """Bindings by the name of the queue that they lead to."""
        bound = (one for one in self.network.bindings if one.destination_type == "queue")
        return grouped((one.destination, one) for one in bound)

    @cached_property
    def consumers(self) -> tuple[ConsumerFact, ...]:
        return tuple(
            ConsumerFact(
                (*at, "consumers", tag),
                tag,
                spec,
                self.network.queue_at[(*at, "queues", spec.queue)],
            )
            for at, block in self.whole.blocks()
            for tag, spec in block.consumers.items()
        )

    @cached_property
    def consumers_of(self) -> Mapping[Path, Sequence[ConsumerFact]]:
        """Consumers by the path of their queue; no entry for a queue without any."""
        return grouped((consumer.queue.path, consumer) for consumer in self.consumers)

    @cached_property
    def exchange_types(self) -> Mapping[str, str]:
        """Type of each exchange that is there, by the broker's name, the built-in ones included."""
        declared = {exchange.name: exchange.type for exchange in self.whole.exchanges.values()}
        return {DEFAULT_EXCHANGE: "direct", **BUILT_IN_EXCHANGES, **declared}

    @cached_property
    def exchanges_leading_on(self) -> frozenset[str]:
        """Names of the exchanges from which some way leads to a queue, for some message."""
        alternates = (node.alternate for node in self.network.exchanges.values() if node.alternate)
        feeding = grouped(
            ("<a queue>" if hop.destination_type == "queue" else hop.destination, hop.source)
            for hop in (*self.network.bindings, *alternates)
        )
        return frozenset(reachable(("<a queue>", DEFAULT_EXCHANGE), feeding.__getitem__))

    def contract(self, publication: Publication) -> MessageContract:
        *at, _, message_type = publication.path
        return dict(self.whole.blocks())[tuple(at)].messages[str(message_type)]

    @cached_property
    def published_to(self) -> frozenset[Path]:
        """The queues that messages get into when they are published."""
        return frozenset(path for each in self.flow.publications for path in each.queues)

    @cached_property
    def resting_places(self) -> Mapping[str, Sequence[QueueNode]]:
        """Names of the queues in which dead letters come to rest, with those they come from. A
        queue that has a dead letter exchange itself is none: it is worked on. And what comes from
        a retry queue comes to be worked on, too."""
        return grouped(
            (name, fact)
            for fact in self.queues
            if fact.queue.purpose != "retry"
            for name in sorted({n for one in self.deaths_by_any_key(fact) for n in one.queues})
            if self.network.queues[name].death is None
        )

    def deaths(self, fact: QueueNode, reason: Reason = "rejected") -> tuple[Death, ...]:
        """What becomes of messages that die in the queue, for each key that they can have then;
        nothing where no key is known, or the queue has no dead letter exchange."""
        known = self._deaths.get((fact.path, reason))
        if known is None:
            keys = self._keys_of_dead(fact)
            known = tuple(self._death(fact, key, reason) for key in keys)
            self._deaths[fact.path, reason] = known
        return known

    def deaths_by_any_key(self, fact: QueueNode, reason: Reason = "rejected") -> tuple[Death, ...]:
        """The same, and where no key is known what becomes of a message whatever its key."""
        if fact.death is None:
            return ()
        return self.deaths(fact, reason) or (self._death(fact, ANY_KEY, reason),)

    def _death(self, node: QueueNode, key: str, reason: Reason) -> Death:
        return simulate_dead_lettering(
            self.network, node, DeadLetter((key,), headers=None), reason, follow=True
        )

    def _keys_of_dead(self, fact: QueueNode) -> Sequence[str]:
        """The routing keys that dead letters of a queue can have, so far as the file tells. By
        its bindings it tells only of exchanges that compare keys."""
        if fact.death is None:
            return ()
        if fact.gives_key:
            return (fact.death.routing_key,)
        if self.flow.publications:
            return sorted(self.flow.routing_keys[fact.path])
        bindings = self.bindings_to.get(fact.name, ())
        if not bindings:
            return (fact.name,)  # only the default exchange leads there
        exact = [b for b in bindings if self.exchange_types.get(b.source) in ("direct", "topic")]
        return sorted({key for b in exact if not is_wildcard(key := b.routing_key)})

    def where(self, *path: str | int) -> Where:
        return self.whole.where(*path)

    def where_argument(self, fact: QueueNode, argument: str) -> Where:
        """Where the file says what becomes this argument of the queue."""
        if argument in fact.queue.arguments:
            return self.where(*fact.path, "arguments", argument)
        key = key_of(argument) or argument
        if key == "dead_letter" and self._inherits_dead_letter(fact):
            return self.where(key)
        return self.where(*fact.path, key)

    def _inherits_dead_letter(self, fact: QueueNode) -> bool:
        """Whether the rule at the top of the file says it, rather than the queue itself."""
        *at, _, key = fact.path
        queue = dict(self.written.blocks())[tuple(at)].queues.get(str(key))
        return queue is not None and queue.dead_letter is None

"""Which queue is there for whose dead letters, by a topology.

The library's own dead letter queues say so themselves (``purpose: dead_letter``). Any other queue
that dead letters come to is one when nothing else comes there: no message type of the file is
published to it, and no exchange is bound to it but those that queues dead-letter to. So a queue
to which a TTL gives messages back, for another try or to a handler, is not taken for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from attune_mq.errors import InvalidInput
from attune_mq.topology.expansion import dead_letter_queue_name
from attune_mq.topology.families import including, instance_with_queue, instantiate
from attune_mq.topology.model import Topology, UnknownName
from attune_mq.topology.objects import Binding, DeadLetterTo, Queue
from attune_mq.topology.reachability import grouped, reachable
from attune_mq.topology.routing import Router
from attune_mq.topology.validation import nearest


class DeadLetterRoute(NamedTuple):
    """Dead letters of ``queue`` rest in ``dead_letter_queue``."""

    queue: str
    dead_letter_queue: str


class NamedDeadLetterQueue(NamedTuple):
    """A dead letter queue. ``topology`` is what its messages are routed by: the file, or the
    instance of a family that the queue belongs to. ``delivery_limit``: of the queue, by the file.
    """

    name: str
    topology: Topology
    delivery_limit: int | None = None


class DeadLetterQueues:
    """The dead letter queues of a topology, indexed once."""

    def __init__(self, topology: Topology) -> None:
        self._router = Router(topology)
        expanded = self._router.topology
        self._queues = {queue.name: queue for queue in expanded.queues.values() if queue.name}
        self._keys = {queue.name: key for key, queue in expanded.queues.items()}
        to_queues = (one for one in expanded.bindings if one.destination_type == "queue")
        self._bindings = dict(grouped((one.destination, one) for one in to_queues))

    @cached_property
    def routes(self) -> tuple[DeadLetterRoute, ...]:
        """Every queue that has one, in the order of the file. Instances of families are left out,
        since a file does not say which there are. A queue that several share comes several times.
        """
        return tuple(
            DeadLetterRoute(queue.name, target)
            for queue in self._queues.values()
            if queue.purpose == "main"
            for target in self._targets(queue)
        )

    @cached_property
    def names(self) -> frozenset[str]:
        """Every dead letter queue."""
        marked = {name for name, queue in self._queues.items() if queue.purpose == "dead_letter"}
        return frozenset(marked | {route.dead_letter_queue for route in self.routes})

    def find(self, name: str) -> NamedDeadLetterQueue:
        """The queue that holds the dead letters of ``name``: a queue's name on the broker, its key
        in the file, or the name of a dead letter queue; also of an instance of a family, such as
        ``worker.7.cancel``. What is a dead letter queue itself stands for itself.

        Raises :class:`UnknownName` for what is none of these, and
        :class:`~attune_mq.errors.InvalidInput` where a queue has no dead letter queue, or several.
        """
        if name not in self._queues:
            queue = self._router.topology.queues.get(name)
            if queue is None or not queue.name:
                return self._find_in_instance(name)
            name = queue.name
        if name in self.names:
            return self._named(name)
        targets = [route.dead_letter_queue for route in self.routes if route.queue == name]
        if len(targets) == 1:
            return self._named(targets[0])
        raise InvalidInput(f"queue {name!r}: {self._why_not_one(name, targets)}")

    def _named(self, name: str) -> NamedDeadLetterQueue:
        return NamedDeadLetterQueue(name, self._router.topology, self._queues[name].delivery_limit)

    def _find_in_instance(self, name: str) -> NamedDeadLetterQueue:
        expanded = self._router.topology
        suffix = dead_letter_queue_name("")
        # The shorter name first: worker.{id} would take worker.7.dlq for worker "7.dlq".
        for candidate in dict.fromkeys((name.removesuffix(suffix), name)):
            instance = instance_with_queue(expanded, candidate)
            if instance is None:
                continue
            part = DeadLetterQueues(including(expanded, instance))
            if name in part._queues:
                found = part.find(name).name
                if found in self._queues:  # one that it shares with others
                    return self._named(found)
                routes = instantiate(expanded, instance.family, **instance.parameters)
                return NamedDeadLetterQueue(found, routes, part._queues[found].delivery_limit)
        hint = nearest(name, [*self._queues, *map(self._keys.__getitem__, self._queues)])
        raise UnknownName(
            f"{expanded.sources.file} queues: expected the key or the name of a queue, or the name "
            f"of a dead letter queue, got {name!r}" + (f" ({hint})" if hint else "")
        )

    def _why_not_one(self, name: str, targets: list[str]) -> str:
        if targets:
            return f"its dead letters rest in several queues, name one: {', '.join(targets)}"
        reached = sorted(set(self._reached(self._queues[name])))
        if reached:
            return (
                f"it has no dead letter queue: its dead letters go to {', '.join(reached)}, where "
                f"other messages arrive too"
            )
        return "it has no dead letter queue: its dead letters are lost"

    def _targets(self, queue: Queue) -> Iterator[str]:
        for target in dict.fromkeys(self._reached(queue)):
            found = self._queues.get(target)
            if found is not None and found != queue and self._is_for_dead_letters(found):
                yield target

    def _reached(self, queue: Queue) -> Iterator[str]:
        """Where dead letters of ``queue`` land next, whatever key they came with."""
        if not isinstance(queue.dead_letter, DeadLetterTo):
            return
        for routing_key in self._keys_into(queue):
            yield from self._router.dead_letter(queue.name, routing_key).queues

    def _keys_into(self, queue: Queue) -> list[str]:
        if isinstance(queue.dead_letter, DeadLetterTo) and queue.dead_letter.routing_key:
            return [""]  # it is replaced
        bound = [binding.routing_key for binding in self._bindings_of(queue)]
        published = [c.routing_key for c in self._router.topology.messages.values()]
        return list(dict.fromkeys([*bound, *published, queue.name]))

    def _is_for_dead_letters(self, queue: Queue) -> bool:
        if queue.purpose != "main":
            return queue.purpose == "dead_letter"
        sources = {binding.source for binding in self._bindings_of(queue)}
        return queue.name not in self._published_to and sources <= self._dead_exchanges

    def _bindings_of(self, queue: Queue) -> list[Binding]:
        return self._bindings.get(self._keys[queue.name], [])

    @cached_property
    def _published_to(self) -> frozenset[str]:
        """The queues that message types of the file are published to."""
        topology = self._router.topology
        contracts = [one for _, block in topology.blocks() for one in block.messages.values()]
        routed = (
            self._router.route(topology.exchange_name(one.exchange), one.routing_key).queues
            for one in contracts
        )
        return frozenset().union(*routed)

    @cached_property
    def _dead_exchanges(self) -> set[str]:
        """Keys of the exchanges that queues dead-letter to, and of those bound behind them."""
        topology = self._router.topology
        queues = [queue for _, block in topology.blocks() for queue in block.queues.values()]
        rules = [queue.dead_letter for queue in queues]
        between = (one for one in topology.bindings if one.destination_type == "exchange")
        behind = grouped((one.source, one.destination) for one in between)
        found = [rule.to for rule in rules if isinstance(rule, DeadLetterTo)]
        return set(reachable(found, behind.__getitem__))

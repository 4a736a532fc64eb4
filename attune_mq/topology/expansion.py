"""What a file leaves to the library, made explicit: dead letter queues and retry queues.

For a queue ``Q`` whose dead letters have a queue of their own, the library adds the queue
``Q.dlq`` and gives ``Q`` the dead letter routing key ``Q``. A fanout exchange copies a message to
all that is bound to it, but the key survives it: the library puts a direct exchange behind the
fanout, bound exchange to exchange, and binds each dead letter queue to that with the key of its
own queue. So a dead letter reaches the queue of its own and no other (measured on RabbitMQ 3.10,
4.0 and 4.3).

For each step of a queue's ``retry.backoff`` the library adds ``Q.retry.10s``, where a message
waits for that time and then returns to ``Q`` by way of the default exchange. It is a quorum queue
whatever ``Q`` is: only these can dead-letter at least once. From a classic queue a message that
expires while the broker is killed is lost (measured: hundreds of 2,000, and none this way).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attune_mq.topology.durations import format_duration
from attune_mq.topology.fields import FrozenDict
from attune_mq.topology.model import Defaults, ExpandedTopology, Topology
from attune_mq.topology.objects import (
    Binding,
    DeadLetterQueue,
    DeadLetterTo,
    Exchange,
    OwnDeadLetterQueue,
    Queue,
)
from attune_mq.topology.source import Path

DEFAULT_EXCHANGE = ""
RETRY_INFIX = ".retry."


def dead_letter_queue_name(queue_name: str) -> str:
    return f"{queue_name}.dlq"


def retry_queue_name(queue_name: str, delay_ms: int) -> str:
    return f"{queue_name}{RETRY_INFIX}{format_duration(delay_ms)}"


def expand(topology: Topology) -> ExpandedTopology:
    """The same topology with every object in it that setup makes; an expanded one is returned as
    it is. Written down, loaded and expanded, it is the same.
    """
    if isinstance(topology, ExpandedTopology):
        return topology
    addition = _Addition(topology, dict(topology.exchanges))
    queues, bindings = addition.expanded(topology.queues, topology.bindings, ())
    families = {}
    for key, family in topology.families.items():
        inner, more = addition.expanded(family.queues, family.bindings, ("families", key))
        families[key] = family.model_copy(update={"queues": FrozenDict(inner), "bindings": more})
    update = {
        "defaults": Defaults(),
        "dead_letter": False,
        "exchanges": FrozenDict(addition.exchanges),
        "queues": FrozenDict(queues),
        "bindings": (*bindings, *addition.routers),
        "families": FrozenDict(families),
    }
    for index in range(len(addition.routers)):
        addition.origins[("bindings", len(bindings) + index)] = ("dead_letter",)
    whole = ExpandedTopology.model_construct(**{**dict(topology), **update})
    return whole.changed(topology.sources.derived(addition.origins))


@dataclass
class _Addition:
    """What is being added to ``topology``; ``origins`` says what in the file led to it."""

    topology: Topology
    exchanges: dict[str, Exchange]
    routers: list[Binding] = field(default_factory=list)
    origins: dict[Path, Path] = field(default_factory=dict)

    def expanded(
        self, queues: Mapping[str, Queue], bindings: tuple[Binding, ...], at: Path
    ) -> tuple[dict[str, Queue], tuple[Binding, ...]]:
        self._queues: dict[str, Queue] = {}
        self._bindings: list[Binding] = []
        self._written = queues
        self._at = at
        for index, binding in enumerate(bindings):
            for routing_key in binding.keys:
                single = {"routing_key": routing_key, "routing_keys": ()}
                self._bind(binding.model_copy(update=single), ("bindings", index))
        for key, queue in queues.items():
            self._queue(key, self._typed(queue))
        return self._queues, tuple(self._bindings)

    def _typed(self, queue: Queue) -> Queue:
        """Queues that only a classic queue can be (exclusive, transient, …) keep to that."""
        replicable = queue.durable and not queue.auto_delete and not queue.belongs_to_a_connection
        if queue.type is not None or not replicable:
            return queue
        return queue.model_copy(update={"type": self.topology.defaults.queue.type})

    def _queue(self, key: str, queue: Queue) -> None:
        self._queues[key] = queue  # first, so that what is added for it comes after it
        rule = self._rule(queue)
        if isinstance(rule, DeadLetterQueue):
            self._queues[key] = self._with_dead_letter_queue(key, queue, rule)
        else:
            self._queues[key] = queue.model_copy(update={"dead_letter": rule})
        self._retry_queues(key, queue)

    def _rule(self, queue: Queue) -> DeadLetterQueue | DeadLetterTo | bool:
        """Where the dead letters of ``queue`` go: its own word, or else the file's."""
        said, general = queue.dead_letter, self.topology.dead_letter
        if isinstance(said, OwnDeadLetterQueue):
            base = general if isinstance(general, DeadLetterQueue) else None
            fallback = DeadLetterQueue(exchange=DEFAULT_EXCHANGE) if base is None else base
            own = said.model_dump(exclude_none=True)
            return fallback.model_copy(update=own)
        if said is not None:
            return said
        ordinary = queue.purpose == "main" and queue.type != "stream"
        shared = queue.durable and not queue.auto_delete and not queue.belongs_to_a_connection
        return general if ordinary and shared else False

    def _with_dead_letter_queue(self, key: str, queue: Queue, rule: DeadLetterQueue) -> Queue:
        origin = ("queues", key, "dead_letter") if queue.dead_letter else ("dead_letter",)
        name = dead_letter_queue_name(queue.name)
        resting = Queue(
            name=name,
            type=queue.type,
            ttl_ms=rule.ttl_ms,
            dead_letter=False,
            purpose="dead_letter",
        )
        self._add(f"{key}.dlq", resting, origin)
        if rule.exchange == DEFAULT_EXCHANGE:
            route = DeadLetterTo(to=DEFAULT_EXCHANGE, routing_key=name, strategy=rule.strategy)
        else:
            route = DeadLetterTo(to=rule.exchange, routing_key=queue.name, strategy=rule.strategy)
            source = self._router(rule.exchange)
            binding = Binding(source=source, destination=f"{key}.dlq", routing_key=queue.name)
            self._bind(binding, origin)
        return queue.model_copy(update={"dead_letter": route})

    def _router(self, exchange: str) -> str:
        """The exchange that gives each dead letter to the one queue that has its key."""
        if self.topology.exchange_type(exchange) != "fanout":
            return exchange
        key = f"{exchange}.direct"
        if key not in self.exchanges:
            name = f"{self.topology.exchange_name(exchange)}.direct"
            self.exchanges[key] = Exchange(name=name, type="direct", internal=True)
            self.origins[("exchanges", key)] = ("exchanges", exchange)
            self.routers.append(
                Binding(source=exchange, destination=key, destination_type="exchange")
            )
        return key

    def _retry_queues(self, key: str, queue: Queue) -> None:
        if queue.type == "stream":  # what comes back to it is appended, for all of its readers
            return
        for delay_ms in dict.fromkeys(queue.retry.backoff_ms if queue.retry else ()):
            back = DeadLetterTo(
                to=DEFAULT_EXCHANGE, routing_key=queue.name, strategy="at-least-once"
            )
            waiting = Queue(
                name=retry_queue_name(queue.name, delay_ms),
                type="quorum",
                ttl_ms=delay_ms,
                overflow="reject-publish",
                dead_letter=back,
                purpose="retry",
            )
            origin = ("queues", key, "retry", "backoff")
            self._add(f"{key}.retry.{format_duration(delay_ms)}", waiting, origin)

    def _add(self, key: str, queue: Queue, origin: Path) -> None:
        if key not in self._written:  # what an expanded topology has comes in its own turn
            self._queues.setdefault(key, queue)
        self._trace(("queues", key), origin)

    def _bind(self, binding: Binding, origin: Path) -> None:
        self._trace(("bindings", len(self._bindings)), origin)
        self._bindings.append(binding)

    def _trace(self, path: Path, origin: Path) -> None:
        inside_family = origin[0] in ("queues", "bindings")
        self.origins[(*self._at, *path)] = (*self._at, *origin) if inside_family else origin


def additions(expanded: ExpandedTopology) -> Mapping[Path, str]:
    """The path of each exchange, queue and binding that the file does not hold, with a sentence
    for people: ``added: for dead_letter in line 9``."""
    paths: list[Path] = [("exchanges", key) for key in expanded.exchanges]
    for at, block in expanded.blocks():
        paths += [(*at, "queues", key) for key in block.queues]
        paths += [(*at, "bindings", index) for index in range(len(block.bindings))]
    added = {}
    for path in paths:
        origin = expanded.sources.origins.get(path)
        if origin is None or origin[-2:-1] == ("bindings",):
            continue  # it stands in the file; a binding with several keys as one of its several
        where = expanded.where(*path)
        line = f" in line {where.line}" if where.line else ""
        added[path] = f"added: for {where.path}{line}"
    return added

"""What is known of the objects on a broker: by the HTTP API, or by what AMQP alone tells.

One description for plan, check, status, migration, metrics and health. What is not known is
``None`` in an :class:`ObservedQueue`, and :class:`Indeterminate`, with the reason, as a verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from attune_mq.broker.management import ManagementClient
from attune_mq.topology import equivalence
from attune_mq.topology.declaration import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
)

Source = Literal["amqp", "management"]
"""Where an observation came from: AMQP alone, or the HTTP API of the management plugin."""
Why = Literal["amqp", "refused"]
"""Why something is not known: AMQP cannot tell, or the user may not look."""
MIGRATION_MARK = "attune-mq.migrating"
"""An exchange that exists while any queue of the virtual host is being migrated: the broker deletes
it with the last ingress that is bound to it."""


def ingress_name(queue: str) -> str:
    """The exchange that exists while this queue is being migrated, between it and what it is bound
    to (:mod:`attune_mq.migration`).

    A client that binds the queue directly meanwhile has messages delivered twice. One that declares
    it between its deletion and its new declaration may make it as it was.
    """
    return f"{queue}.migrating"


@dataclass(frozen=True)
class ObservedQueue:
    """A queue on the broker; ``None`` is what the source does not tell.

    A passive declaration tells ``messages`` (those that are ready) and ``consumers``, now. The HTTP
    API tells all of it, up to five seconds late; where it was asked without statistics,
    ``declaration`` alone. ``depth_change_per_s`` counts unacknowledged messages too.
    """

    name: str
    messages: int | None = None
    consumers: int | None = None
    unacknowledged: int | None = None
    consumer_tags: tuple[str, ...] | None = None
    published_per_s: float | None = None
    delivered_per_s: float | None = None
    depth_change_per_s: float | None = None
    declaration: QueueDeclaration | None = None

    def has_consumer(self, tag: str) -> bool:
        """Whether one is known that is registered by this tag, or as ``tag@instance``."""
        tags = self.consumer_tags or ()
        return any(one == tag or one.startswith(f"{tag}@") for one in tags)


@dataclass(frozen=True)
class Absent:
    """There is nothing of this name."""


@dataclass(frozen=True)
class Indeterminate:
    """The source cannot tell; ``detail`` says to people why not."""

    detail: str
    why: Why = "amqp"


Verdict = equivalence.Answer | Absent | Indeterminate
"""Whether what is wanted is there and equal."""

BINDINGS_NOT_LISTED = Indeterminate("AMQP cannot list bindings")


@dataclass(frozen=True)
class ManagementObservation:
    """All that a virtual host has, as the HTTP API lists it. ``queues`` have their declarations."""

    rules: equivalence.BrokerRules
    exchanges: Mapping[str, ExchangeDeclaration]
    queues: Mapping[str, ObservedQueue]
    bindings: tuple[BindingDeclaration, ...]

    source: Source = field(default="management", init=False)

    def verdict(self, wanted: Declaration) -> Verdict:
        match wanted:
            case ExchangeDeclaration(name):
                exchange = self.exchanges.get(name)
                return equivalence.answer_to_exchange(wanted, exchange) if exchange else Absent()
            case QueueDeclaration(name):
                queue = self.queue_declarations.get(name)
                return equivalence.answer_to_queue(wanted, queue, self.rules) if queue else Absent()
            case BindingDeclaration():
                return listed_binding(wanted, self._identities)

    @cached_property
    def queue_declarations(self) -> Mapping[str, QueueDeclaration]:
        return {name: one.declaration for name, one in self.queues.items() if one.declaration}

    @cached_property
    def _identities(self) -> frozenset[Hashable]:
        return frozenset(equivalence.binding_identity(one) for one in self.bindings)


@dataclass(frozen=True)
class AmqpObservation:
    """What the broker said to each exchange and queue that it was asked about, by kind and name;
    and the ``queues`` that are there."""

    verdicts: Mapping[tuple[str, str], Verdict]
    queues: Mapping[str, ObservedQueue] = field(default_factory=dict)

    source: Source = field(default="amqp", init=False)

    def verdict(self, wanted: Declaration) -> Verdict:
        if not isinstance(wanted, BindingDeclaration):
            return self.verdicts[wanted.kind, wanted.name]
        source = ("exchange", wanted.source)
        destination = (wanted.destination_type, wanted.destination)
        if Absent() in (self.verdicts.get(source), self.verdicts.get(destination)):
            return Absent()
        return BINDINGS_NOT_LISTED


Observation = ManagementObservation | AmqpObservation


def observe_by_management(
    client: ManagementClient, vhost: str, *, consumers: bool = False
) -> ManagementObservation:
    """Everything that a virtual host has, on request with the tags of ``consumers``; without
    statistics. Raises what :class:`ManagementClient` raises."""
    rules = _rules(client, vhost)  # first: this tells whether it is RabbitMQ that answers
    exchanges = [_exchange(listed) for listed in client.exchanges(vhost)]
    tags = _consumer_tags(client, vhost) if consumers else None
    queues = [_queue(listed, tags) for listed in client.queues(vhost)]
    return ManagementObservation(
        rules=rules,
        exchanges={exchange.name: exchange for exchange in exchanges},
        queues={queue.name: queue for queue in queues},
        bindings=listed_bindings(client, vhost),
    )


def listed_queues(
    client: ManagementClient, vhost: str, *, consumers: bool = False
) -> dict[str, ObservedQueue]:
    """All queues by name, with statistics, on request with the tags of ``consumers``. Raises what
    :class:`ManagementClient` raises."""
    statistics = client.queue_statistics(vhost)
    tags = _consumer_tags(client, vhost) if consumers else None
    return {listed["name"]: _queue(listed, tags) for listed in statistics}


def listed_bindings(client: ManagementClient, vhost: str) -> tuple[BindingDeclaration, ...]:
    """Those of a virtual host, which AMQP does not show. Raises what :class:`ManagementClient`
    raises."""
    return tuple(_binding(listed) for listed in client.bindings(vhost))


def _rules(client: ManagementClient, vhost: str) -> equivalence.BrokerRules:
    """A virtual host without a default queue type follows its node, which says so from 4.0 on."""
    of_vhost = client.vhost(vhost).get("default_queue_type")
    of_node = client.overview().get("default_queue_type")
    chosen = next((one for one in (of_vhost, of_node) if one and one != "undefined"), "classic")
    return equivalence.BrokerRules(client.version(), chosen)


def _exchange(listed: Mapping[str, Any]) -> ExchangeDeclaration:
    return ExchangeDeclaration(
        name=listed["name"],
        type=listed["type"],
        durable=listed["durable"],
        auto_delete=listed["auto_delete"],
        internal=listed["internal"],
        arguments=_arguments(listed),
    )


def _consumer_tags(client: ManagementClient, vhost: str) -> Mapping[str, list[str]]:
    """By the names of queues."""
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for one in client.consumers(vhost):
        tags[one["queue"]["name"]].append(one["consumer_tag"])
    return tags


def _queue(listed: Mapping[str, Any], tags: Mapping[str, list[str]] | None) -> ObservedQueue:
    name, rates = listed["name"], listed.get("message_stats")
    return ObservedQueue(
        name=name,
        messages=listed.get("messages_ready"),
        consumers=listed.get("consumers"),
        unacknowledged=listed.get("messages_unacknowledged"),
        consumer_tags=None if tags is None else tuple(sorted(tags.get(name, ()))),
        published_per_s=_rate(rates, "publish_details"),
        delivered_per_s=_rate(rates, "deliver_get_details"),
        depth_change_per_s=_rate(listed, "messages_details"),
        declaration=QueueDeclaration(
            name=name,
            durable=listed["durable"],
            exclusive=listed.get("exclusive", False),
            auto_delete=listed["auto_delete"],
            arguments=_arguments(listed),
        ),
    )


def _rate(counters: object, name: str) -> float | None:
    """Messages a second by the HTTP API, which leaves out what has never happened."""
    rate = counters.get(name, {}).get("rate") if isinstance(counters, Mapping) else None
    return float(rate) if isinstance(rate, int | float) else None


def _binding(listed: Mapping[str, Any]) -> BindingDeclaration:
    return BindingDeclaration(
        source=listed["source"],
        destination=listed["destination"],
        destination_type=listed["destination_type"],
        routing_key=listed["routing_key"],
        arguments=_arguments(listed),
    )


def _arguments(listed: Mapping[str, Any]) -> dict[str, Any]:
    return dict(listed.get("arguments") or {})  # some versions have [] for none


def listed_binding(wanted: BindingDeclaration, bound: Container[Hashable]) -> Verdict:
    """Whether a binding is among those that the HTTP API lists, given by their identities.

    The API does not tell 32-bit and 64-bit integers apart, and AMQP declares a second binding where
    they differ. Where both mean the same to the exchange, the one that is there is the one that is
    wanted; inside of an array or a table they do not.
    """
    if equivalence.binding_identity(wanted) not in bound:
        return Absent()
    if any(_holds_a_number(value) for value in wanted.arguments.values()):
        return Indeterminate(
            "the HTTP API does not tell how wide a number in an array or a table is"
        )
    return equivalence.Equal()


def _holds_a_number(value: Any) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(inner, str | bytes) or not isinstance(inner, Iterable):
        return False
    return any(type(one) is int or _holds_a_number(one) for one in inner)

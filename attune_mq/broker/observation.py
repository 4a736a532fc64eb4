"""Looking at what there is on a broker: all of it by the HTTP API, or what AMQP alone can tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.observed import (
    AmqpObservation,
    ManagementObservation,
    Observation,
    ObservedQueue,
)
from attune_mq.broker.probing import Prober
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import BrokerRules
from attune_mq.topology.model import Topology


def observe(
    topology: Topology, broker: BrokerSettings, management_url: str | None = None
) -> Observation:
    """By the HTTP API where there is one. Changes nothing; see the two below for what is raised."""
    if management_url is None:
        with Prober(broker) as prober:
            return observe_by_amqp(topology, prober)
    client = management_client(management_url, broker)
    return observe_by_management(client, virtual_host(broker.urls[0]))


def observe_by_amqp(topology: Topology, prober: Prober) -> AmqpObservation:
    """Whether each exchange and queue of ``topology`` exists and is equal.

    AMQP cannot list bindings, nor anything that the topology does not name, nor tell whether an
    argument that the broker does not compare is there: whether an object with one is equal is
    indeterminate. Takes two
    round trips for each object. Looking at a queue that expires (``x-expires``) counts as using it.

    Raises ``BrokerUnavailable``, ``LoginRefused``, ``VirtualHostRefused``.
    """
    verdicts = {
        (one.kind, one.name): prober.seen(one)
        for one in declarations(topology)
        if not isinstance(one, BindingDeclaration)
    }
    queues = {
        name: ObservedQueue(name, consumers=count) for name, count in prober.consumer_counts.items()
    }
    return AmqpObservation(verdicts, queues)


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


def _rules(client: ManagementClient, vhost: str) -> BrokerRules:
    """A virtual host without a default queue type follows its node, which says so from 4.0 on."""
    of_vhost = client.vhost(vhost).get("default_queue_type")
    of_node = client.overview().get("default_queue_type")
    chosen = next((one for one in (of_vhost, of_node) if one and one != "undefined"), "classic")
    return BrokerRules(client.version(), chosen)


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

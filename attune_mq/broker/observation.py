"""What there is on a broker: all of it by the HTTP API, or what AMQP alone can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.plan import AmqpObservation, ManagementObservation, Observation
from attune_mq.broker.probing import Prober
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import BrokerRules
from attune_mq.topology.expansion import expand
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
    argument that the broker does not compare is there: an object with one is unseen. Takes two
    round trips for each object. Looking at a queue that expires (``x-expires``) counts as using it.

    Raises ``BrokerUnavailable``, ``LoginRefused``, ``VirtualHostRefused``.
    """
    verdicts = {
        (one.kind, one.name): prober.seen(one)
        for one in declarations(expand(topology))
        if not isinstance(one, BindingDeclaration)
    }
    return AmqpObservation(verdicts)


def observe_by_management(client: ManagementClient, vhost: str) -> ManagementObservation:
    """Everything that a virtual host has. Raises what :class:`ManagementClient` raises."""
    rules = _rules(client, vhost)  # first: this tells whether it is RabbitMQ that answers
    exchanges = [_exchange(listed) for listed in client.exchanges(vhost)]
    queues = [_queue(listed) for listed in client.queues(vhost)]
    return ManagementObservation(
        rules=rules,
        exchanges={exchange.name: exchange for exchange in exchanges},
        queues={queue.name: queue for queue in queues},
        bindings=listed_bindings(client, vhost),
    )


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


def _queue(listed: Mapping[str, Any]) -> QueueDeclaration:
    return QueueDeclaration(
        name=listed["name"],
        durable=listed["durable"],
        exclusive=listed.get("exclusive", False),
        auto_delete=listed["auto_delete"],
        arguments=_arguments(listed),
    )


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

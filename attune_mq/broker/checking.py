"""``check``: whether everything is there that is needed, and is consumed. For health probes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.observation import observe_by_amqp, observe_by_management
from attune_mq.broker.plan import Create, Plan, make_plan
from attune_mq.broker.probing import QuietProber
from attune_mq.broker.report import Conflict, Unknown
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology
from attune_mq.topology.selection import needed_by
from attune_mq.topology_file import load_topology

CHECK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ConsumerPresence:
    """``present`` is ``None`` where the source cannot tell: over AMQP, of a queue that belongs to
    its consumer's connection."""

    tag: str
    queue: str
    present: bool | None


@dataclass(frozen=True)
class Health:
    """``missing`` (there to ``create``), ``conflicts`` and ``unknown`` as in a
    :class:`~attune_mq.broker.plan.Plan`."""

    missing: tuple[Create, ...]
    conflicts: tuple[Conflict, ...]
    consumers: tuple[ConsumerPresence, ...]
    unknown: tuple[Unknown, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is missing or different, and no consumer is known to be absent. Of what
        is ``unknown``, and of a consumer of which the broker does not tell, that is not known."""
        absent = any(consumer.present is False for consumer in self.consumers)
        return not (self.missing or self.conflicts or absent)


def check(
    topology: Topology | str | os.PathLike[str] | None = None,
    broker: BrokerSettings | str | None = None,
    *,
    service: str | None = None,
    management_url: str | None = None,
) -> Health:
    """Whether all that ``service`` (or the whole file) needs is there and equal, and whether each
    of its consumers is registered. Families are not looked at; an instance of one is, given as
    ``instantiate(topology, "worker", worker_id=7)``.

    Over AMQP bindings are not seen, and consumers are counted without being named: all consumers
    of a queue count as absent while it has fewer than the file wires to it. Over the HTTP API
    (``management_url``) a consumer is known by its tag, or ``tag@instance``; the API lists who
    came, and who went, up to five seconds late.

    Over AMQP it leaves no line in the broker's log as long as all is well. An exchange that is
    deleted at the very moment of the check may be made anew by it, as the file says.

    Raises as :func:`~attune_mq.broker.planning.plan`.
    """
    wanted = topology if isinstance(topology, Topology) else load_topology(topology)
    wanted = expand(wanted) if service is None else needed_by(wanted, service)
    settings = BrokerSettings.of(broker)
    if management_url is None:
        return _by_amqp(wanted, settings)
    client = management_client(management_url, settings, timeout_s=CHECK_TIMEOUT_S)
    return _by_management(wanted, client, virtual_host(settings.urls[0]))


def _by_amqp(wanted: Topology, settings: BrokerSettings) -> Health:
    with QuietProber(settings) as prober:
        plan = make_plan(wanted, observe_by_amqp(wanted, prober))
    return _health(plan, _counted(wanted, prober.consumer_counts))


def _by_management(wanted: Topology, client: ManagementClient, vhost: str) -> Health:
    plan = make_plan(wanted, observe_by_management(client, vhost))
    registered = [(one["queue"]["name"], one["consumer_tag"]) for one in client.consumers(vhost)]
    return _health(plan, _named(wanted, registered))


def _health(plan: Plan, consumers: tuple[ConsumerPresence, ...]) -> Health:
    return Health(plan.create, plan.conflicts, consumers, plan.unknown)


def _counted(wanted: Topology, counts: Mapping[str, int]) -> tuple[ConsumerPresence, ...]:
    needed = Counter(spec.queue for spec in wanted.consumers.values())
    consumers = []
    for tag, spec in wanted.consumers.items():
        queue = wanted.queues[spec.queue]
        present = counts.get(queue.name, 0) >= needed[spec.queue]
        known = None if queue.belongs_to_a_connection else present
        consumers.append(ConsumerPresence(tag, queue.name, known))
    return tuple(consumers)


def _named(wanted: Topology, registered: list[tuple[str, str]]) -> tuple[ConsumerPresence, ...]:
    consumers = []
    for tag, spec in wanted.consumers.items():
        queue = wanted.queues[spec.queue].name
        tags = (other for where, other in registered if queue in ("", where))
        present = any(other == tag or other.startswith(f"{tag}@") for other in tags)
        consumers.append(ConsumerPresence(tag, queue, present))
    return tuple(consumers)

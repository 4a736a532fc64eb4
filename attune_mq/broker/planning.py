"""``plan``: what set-up would do to a broker, without doing it."""

from __future__ import annotations

import os

from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.observation import observe
from attune_mq.broker.plan import Plan, make_plan
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology
from attune_mq.topology.selection import needed_by
from attune_mq.topology_file import load_topology


def plan(
    topology: Topology | str | os.PathLike[str] | None = None,
    broker: BrokerSettings | str | None = None,
    *,
    service: str | None = None,
    management_url: str | None = None,
) -> Plan:
    """Compares a topology with a broker. Creates and changes nothing, not even in a race.

    ``topology``: a topology, the path of a file, or nothing for the default file. ``service``:
    only what that service needs. ``broker``: as for ``setup_infrastructure``.
    ``management_url``: of RabbitMQ's HTTP API, which sees everything; without it, AMQP alone tells
    whether exchanges and queues exist and are equal, and the plan says what is unknown.

    Raises ``InvalidInput`` for a file, service or URL that is wrong, ``BrokerUnavailable``, and
    ``PermissionRefused`` for a login, a virtual host or a tag.
    """
    wanted = topology if isinstance(topology, Topology) else load_topology(topology)
    whole = expand(wanted) if service is None else needed_by(wanted, service)
    return make_plan(whole, observe(whole, BrokerSettings.of(broker), management_url))

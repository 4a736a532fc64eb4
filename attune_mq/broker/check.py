"""``check``: whether everything is there that is needed, and is consumed. For health probes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.management import management_client
from attune_mq.broker.observation import ManagementObservation, Observation, observe_by_management
from attune_mq.broker.plan import make_plan, observe_by_amqp
from attune_mq.broker.probing import QuietProber
from attune_mq.broker.report import Conflict, Create, Extra, OfKind, Step, Unknown
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
    :class:`~attune_mq.broker.plan.Plan`, of which it has the ``outcomes``."""

    outcomes: tuple[Step | Extra, ...]
    consumers: tuple[ConsumerPresence, ...]

    missing = OfKind(Create)
    conflicts = OfKind(Conflict)
    unknown = OfKind(Unknown)

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

    Raises as :func:`~attune_mq.broker.plan.plan`.
    """
    wanted = topology if isinstance(topology, Topology) else load_topology(topology)
    if service is not None:
        wanted = needed_by(wanted, service)
    observation = _observe(wanted, BrokerSettings.of(broker), management_url)
    outcomes = make_plan(wanted, observation).outcomes
    return Health(outcomes, tuple(_presences(wanted, observation)))


def _observe(wanted: Topology, settings: BrokerSettings, management_url: str | None) -> Observation:
    if management_url is None:
        with QuietProber(settings) as prober:
            return observe_by_amqp(wanted, prober)
    client = management_client(management_url, settings, timeout_s=CHECK_TIMEOUT_S)
    return observe_by_management(client, virtual_host(settings.urls[0]), consumers=True)


def _presences(wanted: Topology, observation: Observation) -> Iterator[ConsumerPresence]:
    needed = Counter(spec.queue for spec in wanted.consumers.values())
    queues = observation.queues
    for tag, spec in wanted.consumers.items():
        queue = wanted.queues[spec.queue]
        present: bool | None = None
        if isinstance(observation, ManagementObservation):
            candidates = [name for name in queues if queue.name in ("", name)]
            present = any(queues[name].has_consumer(tag) for name in candidates)
        elif not queue.belongs_to_a_connection:
            there = queues.get(queue.name)
            present = there is not None and (there.consumers or 0) >= needed[spec.queue]
        yield ConsumerPresence(tag, queue.name, present)

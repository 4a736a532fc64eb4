"""Metrics for Prometheus (extra ``metrics``).

::

    topology = load_topology()
    metrics = Metrics(topology)
    service = Service("billing", topology, telemetry=metrics)
    metrics.watch(service)
    metrics.watch_queues(topology, service.settings)
    HealthServer(service, metrics=metrics.exposition).start()

What happens is counted when it happens; what *is* (unacknowledged messages, depths of queues, what
is due in an outbox) is read at a scrape. A scrape takes as long as its slowest answer, and
:data:`SCRAPE_TIMEOUT_S` at most: what has not answered by then is left out, never made up.

``docs/metrics.md`` lists every metric. Each is in :data:`~attune_mq.metrics.table.METRICS` too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.management import management_client
from attune_mq.message.labels import LabelValues
from attune_mq.metrics import sources
from attune_mq.metrics.events import EventCounts
from attune_mq.metrics.table import METRICS, Metric
from attune_mq.service import Service
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology
from attune_mq.topology.objects import DeadLetterTo

__all__ = ["METRICS", "SCRAPE_TIMEOUT_S", "Metric", "Metrics"]

SCRAPE_TIMEOUT_S = 1.0
"""How long a scrape waits for the broker, its HTTP API and the database, all together."""


class Metrics(EventCounts):
    """The metrics of one service: a telemetry, and a collector of prometheus_client.

    ``topology``: the whole file, which bounds the values of labels.

    :meth:`exposition` is what ``/metrics`` answers, with the metrics of process, garbage collector
    and Python beside ours. Who has a registry already registers this in it instead:
    ``prometheus_client.REGISTRY.register(metrics)``. Safe from any thread.
    """

    def __init__(self, topology: Topology) -> None:
        self._values = LabelValues(topology)
        super().__init__(self._values)
        self._sources: list[sources.Source] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def watch(self, service: Service) -> None:
        """Exposes the state of its consumers and its publisher, and counts from 0 what it may do.
        Call it after the handlers are registered, before the service starts."""
        self._sources.append(sources.ProcessState(service, self._values))
        topology = expand(service.topology)
        handled = service.handlers.message_types
        for tag, spec in topology.consumers.items():
            if spec.service == service.name:
                rule = topology.queues[spec.queue].dead_letter
                any_type = not spec.handles or "*" in spec.handles
                types = handled if any_type else handled.intersection(spec.handles)
                self.expect_consumer(tag, types, drops=not isinstance(rule, DeadLetterTo))
        for name, contract in topology.messages.items():
            if service.name in contract.publishers:
                self.expect_messages(topology.exchange_name(contract.exchange), name)

    def watch_queues(
        self, topology: Topology, broker: BrokerSettings, *, management_url: str | None = None
    ) -> None:
        """Exposes the depth of the queues of ``topology``, those that the library adds included.

        ``management_url``: of RabbitMQ's HTTP API, for what consumers hold. Its user needs the tag
        ``management``; without one in the URL it is that of the broker. Raises
        :class:`~attune_mq.broker.management.InvalidManagementUrl`.
        """
        management = None
        if management_url is not None:
            management = management_client(management_url, broker, timeout_s=SCRAPE_TIMEOUT_S)
        self._sources.append(sources.QueueDepths(topology, broker, self._values, management))

    def watch_outbox(
        self,
        ask: Callable[[], sources.Due],
        failing: Callable[[], Iterable[sources.Failing]] | None = None,
    ) -> None:
        """Exposes the outbox. ``ask``: such as ``Outbox.backlog`` in a transaction; it may wait,
        and raise. ``failing``: likewise, such as ``Outbox.failing``; without it failed
        attempts to publish are left out."""
        self._sources.append(sources.OutboxBacklog(ask))
        if failing is not None:
            self._sources.append(sources.OutboxFailures(failing))

    def watch_database(self, trouble: Callable[[], str | None]) -> None:
        """Exposes whether the database works. ``trouble``: why not, at once, such as
        ``DatabaseWatch.trouble``; ``None``: it does."""
        self._sources.append(sources.DatabaseState(trouble))

    def exposition(self) -> tuple[str, bytes]:
        """The content type and the body of an answer to Prometheus."""
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def close(self) -> None:
        """Closes the connection by which queues are looked at; the next scrape opens one anew."""
        for source in self._sources:
            source.close()

    def collect(self) -> Iterator[Family]:
        for query in (one for source in self._sources for one in source.queries):
            query.begin()
        yield from self.families()
        deadline = time.monotonic() + SCRAPE_TIMEOUT_S
        for source in self._sources:
            yield from source.families(deadline)

    def describe(self) -> Iterator[Family]:
        """Names alone: registering asks nobody anything."""
        for metric in METRICS:
            yield Family(metric.name.removesuffix("_total"), metric.help, metric.kind)

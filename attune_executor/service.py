"""The executor as a whole: composition, start, drain."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from attune_executor.enforcement import EnforcementProcessor
from attune_executor.manager import ExecutionManager
from attune_executor.migrations import migrate
from attune_executor.overdue import Limits
from attune_executor.periodic import Periodic
from attune_executor.rules import load_rules
from attune_executor.scheduler import ExecutionScheduler
from attune_executor.settings import ExecutorSettings
from attune_executor.transactions import Transactions
from attune_executor.watchdog import DispatchWatchdog
from attune_executor.worker_liveness import WorkerQueues
from attune_mq import HealthServer, Service, Topology, load_topology
from attune_mq.broker import QueueInspector
from attune_mq.message import Telemetries
from attune_mq.metrics import Metrics
from attune_mq.transactional import create_database_engine

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from attune_executor.tracing import Traces

NAME = "executor"
HOUSEKEEPING_INTERVAL_S = 3_600.0
LONGEST_LOOK_INTERVAL_S = 5.0
SHORTEST_LOOK_INTERVAL_S = 0.1


class Executor:
    """Three components on one topology. Each of the service's consumers serves all of them, so
    that the topology decides which queue a message comes by.

    Several executors may share one broker and one database.
    """

    def __init__(
        self, settings: ExecutorSettings, *, tracer_provider: TracerProvider | None = None
    ) -> None:
        """``tracer_provider``: by default one that is configured by OpenTelemetry's variables.

        Raises :class:`~attune_mq.InvalidInput` for a ``management_url`` that is invalid.
        """
        self.settings = settings
        rules = load_rules(settings.rules)
        self.engine = create_database_engine(settings.database_url.get_secret_value())
        topology = load_topology(settings.topology)
        self.metrics = Metrics(topology)
        self._traces = _traces(settings, topology, tracer_provider)
        traces = self._traces.telemetry if self._traces else None
        self.service = Service(
            NAME,
            topology,
            settings.url.get_secret_value() if settings.url else None,
            instance=settings.instance,
            wait_s=settings.broker_wait_s,
            telemetry=Telemetries([self.metrics, traces]) if traces else self.metrics,
        )
        self._inspector = QueueInspector(self.service.settings)
        workers = WorkerQueues(self.service.full_topology, self._inspector)
        self.transactions = Transactions(
            self.engine,
            self.service.publisher,
            service=NAME,
            headers=traces.headers if traces else None,
        )
        attempts, delay_s = settings.scheduling_attempts, settings.scheduling_delay_s
        scheduler = ExecutionScheduler(
            self.transactions, rules, workers, attempts=attempts, delay_s=delay_s
        )
        EnforcementProcessor(self.transactions, rules).register(self.service)
        scheduler.register(self.service)
        ExecutionManager(self.transactions, workers).register(self.service)
        self._add_background_tasks(workers)
        self._watch_metrics()
        self.health = self._health_server() if settings.health_port else None

    def _add_background_tasks(self, workers: WorkerQueues) -> None:
        settings, transactions = self.settings, self.transactions
        limits = Limits(
            dispatch_grace=timedelta(seconds=settings.dispatch_grace_s),
            dispatch_limit=timedelta(seconds=settings.dispatch_limit_s),
            worker_absence=timedelta(seconds=settings.worker_absence_s),
            running_limit=timedelta(seconds=settings.running_limit_s),
        )
        attempts = settings.scheduling_attempts
        watchdog = DispatchWatchdog(transactions, workers, limits=limits, attempts=attempts)
        half_s = min(settings.dispatch_grace_s, settings.worker_absence_s) / 2
        interval_s = min(LONGEST_LOOK_INTERVAL_S, max(SHORTEST_LOOK_INTERVAL_S, half_s))
        self.watchdog = Periodic("dispatch-watchdog", interval_s, watchdog.look)
        keep = timedelta(days=settings.inbox_keep_days)
        housekeeping = Periodic(
            "housekeeping", HOUSEKEEPING_INTERVAL_S, lambda: transactions.forget(keep)
        )
        for task in (transactions.relay, transactions.watch, housekeeping, self.watchdog):
            self.service.add_background_task(task)

    def _watch_metrics(self) -> None:
        metrics, service = self.metrics, self.service
        metrics.watch(service)
        url = self.settings.http_api_url
        metrics.watch_queues(service.full_topology, service.settings, management_url=url)
        metrics.watch_outbox(self.transactions.backlog, self.transactions.failing)
        metrics.watch_database(lambda: self.transactions.watch.trouble)

    def _health_server(self) -> HealthServer:
        """Readiness requires the database, the outbox relay and the watchdog as well."""
        settings, relay = self.settings, self.transactions.relay
        server = HealthServer(
            self.service,
            host=settings.health_host,
            port=settings.health_port,
            metrics=self.metrics.exposition,
            management_url=settings.http_api_url,
        )
        server.watch("database", lambda: self.transactions.watch.trouble)
        server.watch(
            "outbox relay", lambda: relay.trouble if relay.running else "its thread does not run"
        )
        server.watch("dispatch watchdog", lambda: self.watchdog.trouble)
        return server

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then running handlers may finish, and their messages are
        published.

        Raises :class:`~attune_mq.InvalidInput` where the port of the health endpoints is in use.
        """
        self._start_health()
        try:
            migrate(self.engine)
            self.service.run(deadline_s=self.settings.drain_s)
        finally:
            self._close()

    def start(self) -> None:
        """In threads of this process, for tests and for programs that embed an executor."""
        self._start_health()
        try:
            migrate(self.engine)
            self.service.start()
        except BaseException:
            self._close()
            raise

    def stop(self) -> None:
        self.service.stop(self.settings.drain_s)
        self._close()

    def _start_health(self) -> None:
        """First, so that it answers while the executor waits for broker and database."""
        if self.health is not None:
            self.health.start()

    def _close(self) -> None:
        if self.health is not None:
            self.health.stop()
        self.metrics.close()
        if self._traces is not None:
            self._traces.send()
        self._inspector.close()
        self.engine.dispose()


def _traces(
    settings: ExecutorSettings, topology: Topology, provider: TracerProvider | None
) -> Traces | None:
    if settings.tracing == "off":
        return None
    from attune_executor.tracing import Traces  # imports OpenTelemetry

    return Traces(topology, provider)

"""The executor as a whole: composition, start, drain."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from attune_executor.enforcement import EnforcementProcessor
from attune_executor.health import health_server
from attune_executor.ledger import Ledger
from attune_executor.manager import ExecutionManager
from attune_executor.metrics import watch
from attune_executor.migrations import migrate
from attune_executor.overdue import Limits
from attune_executor.periodic import Periodic
from attune_executor.presence import WorkerQueues
from attune_executor.rules import load_rules
from attune_executor.scheduler import ExecutionScheduler
from attune_executor.settings import ExecutorSettings
from attune_executor.watchdog import DispatchWatchdog
from attune_mq import QueueInspector, Service, Telemetries, Topology, load_topology
from attune_mq.metrics import Metrics
from attune_mq.transactional import create_database_engine

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from attune_executor.tracing import Traces

NAME = "executor"
HOUSEKEEPING_INTERVAL_S = 3_600.0
"""From one forgetting of the ids of messages that can no longer come again to the next."""
LONGEST_LOOK_INTERVAL_S = 5.0
SHORTEST_LOOK_INTERVAL_S = 0.1


class Executor:
    """Three components on one topology. Each of the service's consumers can reach all of them, so
    which queue a message comes by is the topology's to say.

    Several executors run side by side on one broker and one database.
    """

    def __init__(
        self, settings: ExecutorSettings, *, tracer_provider: TracerProvider | None = None
    ) -> None:
        """``tracer_provider``: for traces, of a program that holds an executor; else the one that
        the variables of OpenTelemetry make."""
        self.settings = settings
        rules = load_rules(settings.rules)
        self.engine: Engine = create_database_engine(settings.database_url.get_secret_value())
        url = settings.url.get_secret_value() if settings.url else None
        topology = load_topology(settings.topology)
        metrics = self.metrics = Metrics(topology)
        traces = self._traces = _traces(settings, topology, tracer_provider)
        self.service = Service(
            NAME,
            topology,
            url,
            instance=settings.instance,
            wait_s=settings.broker_wait_s,
            telemetry=Telemetries([metrics, traces.telemetry]) if traces else metrics,
        )
        self._inspector = QueueInspector(self.service.settings)
        workers = WorkerQueues(self.service.full_topology, self._inspector)
        ledger = self.ledger = Ledger(
            self.engine,
            self.service.publisher,
            service=NAME,
            headers=traces.telemetry.headers if traces else None,
        )
        for component in (
            EnforcementProcessor(ledger, rules),
            ExecutionScheduler(
                ledger,
                rules,
                workers,
                attempts=settings.scheduling_attempts,
                delay_s=settings.scheduling_delay_s,
            ),
            ExecutionManager(ledger, workers),
        ):
            component.register(self.service)
        watch(metrics, self.service, ledger, settings)
        self.watchdog = self._run_beside(ledger, workers)
        self.health = (
            health_server(self.service, ledger, self.watchdog, metrics, settings)
            if settings.health_port
            else None
        )

    def _run_beside(self, ledger: Ledger, workers: WorkerQueues) -> Periodic:
        """What runs beside the components; the watchdog of it, by which readiness goes."""
        settings, keep = self.settings, timedelta(days=self.settings.inbox_keep_days)
        look = DispatchWatchdog(
            ledger, workers, limits=_limits(settings), attempts=settings.scheduling_attempts
        ).look
        housekeeping = Periodic(
            "housekeeping", HOUSEKEEPING_INTERVAL_S, lambda: ledger.forget(keep)
        )
        watchdog = Periodic("dispatch-watchdog", _look_interval_s(settings), look)
        for background in (ledger.relay, ledger.watch, housekeeping, watchdog):
            self.service.add_background_task(background)
        return watchdog

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then what runs may finish, and what it says is published.

        Raises :class:`~attune_mq.InvalidInput` where another has the port of its health.
        """
        self._tell_health()
        try:
            migrate(self.engine)
            self.service.run(deadline_s=self.settings.drain_s)
        finally:
            self._close()

    def start(self) -> None:
        """In threads of this process, for tests and for programs that hold an executor."""
        self._tell_health()
        try:
            migrate(self.engine)
            self.service.start()
        except BaseException:
            self._close()
            raise

    def stop(self) -> None:
        self.service.stop(self.settings.drain_s)
        self._close()

    def _tell_health(self) -> None:
        """First of all, so that there is an answer while broker and database are waited for."""
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
    from attune_executor.tracing import Traces  # and with it OpenTelemetry

    return Traces(topology, provider)


def _limits(settings: ExecutorSettings) -> Limits:
    return Limits(
        dispatch_grace=timedelta(seconds=settings.dispatch_grace_s),
        dispatch_limit=timedelta(seconds=settings.dispatch_limit_s),
        worker_absence=timedelta(seconds=settings.worker_absence_s),
        running_limit=timedelta(seconds=settings.running_limit_s),
    )


def _look_interval_s(settings: ExecutorSettings) -> float:
    shortest_s = min(settings.dispatch_grace_s, settings.worker_absence_s)
    return min(LONGEST_LOOK_INTERVAL_S, max(SHORTEST_LOOK_INTERVAL_S, shortest_s / 2))

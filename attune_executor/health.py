"""What the executor tells of its health, beside what every service on the library does."""

from __future__ import annotations

from attune_executor.ledger import Ledger
from attune_executor.periodic import Periodic
from attune_executor.settings import ExecutorSettings
from attune_mq import HealthServer, Service
from attune_mq.metrics import Metrics


def health_server(
    service: Service,
    ledger: Ledger,
    watchdog: Periodic,
    metrics: Metrics,
    settings: ExecutorSettings,
) -> HealthServer:
    """Readiness needs the database, the outbox relay and the watchdog of dispatches as well.

    Raises :class:`~attune_mq.InvalidInput` for a URL that is none of the HTTP API.
    """
    server = HealthServer(
        service,
        host=settings.health_host,
        port=settings.health_port,
        metrics=metrics.exposition,
        management_url=settings.http_api_url,
    )
    server.watch("database", lambda: ledger.trouble)
    server.watch("outbox relay", lambda: _relay_trouble(ledger))
    server.watch("dispatch watchdog", lambda: watchdog.trouble)
    return server


def _relay_trouble(ledger: Ledger) -> str | None:
    return ledger.relay.trouble if ledger.relay.running else "its thread does not run"

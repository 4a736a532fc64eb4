"""What the executor tells of its health, beside what every service on the library does."""

from __future__ import annotations

from attune_executor.ledger import Ledger
from attune_mq import HealthServer, Service
from attune_mq.metrics import Metrics


def health_server(
    service: Service, ledger: Ledger, metrics: Metrics, *, host: str, port: int
) -> HealthServer:
    """Readiness needs the database and the outbox relay as well."""
    server = HealthServer(service, host=host, port=port, metrics=metrics.exposition)
    server.watch("database", lambda: ledger.trouble)
    server.watch("outbox relay", lambda: _relay_trouble(ledger))
    return server


def _relay_trouble(ledger: Ledger) -> str | None:
    return ledger.relay.trouble if ledger.relay.running else "its thread does not run"

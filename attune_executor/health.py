"""What the executor tells of its health, beside what every service on the library does."""

from __future__ import annotations

from attune_executor.ledger import Ledger
from attune_mq import HealthServer, Service


def health_server(service: Service, ledger: Ledger, *, host: str, port: int) -> HealthServer:
    """Readiness needs the database and the outbox relay as well."""
    server = HealthServer(service, host=host, port=port)
    server.watch("database", lambda: ledger.patience.trouble or ledger.watch.trouble)
    server.watch("outbox relay", lambda: _relay_trouble(ledger))
    return server


def _relay_trouble(ledger: Ledger) -> str | None:
    return ledger.relay.trouble if ledger.relay.running else "its thread does not run"

"""What the executor tells Prometheus, beside what every service on the library does."""

from __future__ import annotations

from attune_executor.ledger import Ledger
from attune_executor.settings import ExecutorSettings
from attune_mq import Service
from attune_mq.metrics import Metrics


def watch(metrics: Metrics, service: Service, ledger: Ledger, settings: ExecutorSettings) -> None:
    """The service, every queue of the file, outbox and database.

    Raises :class:`~attune_mq.InvalidInput` for a URL that is none of the HTTP API.
    """
    metrics.watch(service)
    metrics.watch_queues(
        service.full_topology, service.settings, management_url=settings.http_api_url
    )
    metrics.watch_outbox(ledger.backlog, ledger.failing)
    metrics.watch_database(lambda: ledger.trouble)

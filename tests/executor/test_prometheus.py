"""Prometheus itself beside an executor at work: it scrapes, judges alerts, answers the panels."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from attune_executor.settings import ExecutorSettings
from tests.executor.harness import enforcement, eventually, free_port, running
from tests.metrics.rules import (
    ALERTS,
    ALERTS_FILE,
    PROMETHEUS,
    dashboard_expressions,
    needs_prometheus,
)

EMPTY_WHILE_ALL_IS_WELL = {
    'attune_mq_messages_requeued_total{job=~"$job", instance=~"$instance", queue=~"$queue"}',
    'attune_mq_consumer_pauses_total{job=~"$job", instance=~"$instance", queue=~"$queue"}',
    'attune_mq_messages_dropped_total{job=~"$job", instance=~"$instance", queue=~"$queue"}',
    'attune_mq_queue_messages_ready{job=~"$job", purpose="retry"}',
}
"""Series of what did not happen. The shipped topology has neither a queue without a dead letter
queue nor a retry queue."""


class Prometheus:
    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._api}/{what}?{query}") as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def is_there(self) -> bool:
        try:
            self.ask("status/buildinfo")
        except OSError:
            return False
        return True

    def alert_rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, target_port: int) -> Iterator[Prometheus]:
    """Scrapes every second what the executor tells, and evaluates the alert rules as often."""
    assert PROMETHEUS is not None
    port, configuration = free_port(), folder / "prometheus.yml"
    scraped = {
        "job_name": "attune-executor",
        "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}],
    }
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    document = {"global": every, "rule_files": [str(ALERTS_FILE)], "scrape_configs": [scraped]}
    configuration.write_text(yaml.safe_dump(document), encoding="utf-8")
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'series'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )
    try:
        server = Prometheus(port)
        eventually(server.is_there)
        yield server
    finally:
        process.terminate()
        process.wait(30)


@needs_prometheus
def test_prometheus_understands_all_that_it_is_told_and_finds_all_well(
    observed: ExecutorSettings, tmp_path: Path
) -> None:
    with (
        running(observed) as harness,
        prometheus(tmp_path, observed.health_port) as server,
        harness.worker(),
        harness.publisher() as publisher,
    ):
        for number in range(20):
            publisher.publish(enforcement(number))
        eventually(lambda: harness.executions() == {"completed": 20})
        handled = 'attune_mq_messages_consumed_total{type="ExecutionCompleted"}'
        eventually(lambda: value_of(server.query(f"sum({handled})")) == 20)
        eventually(lambda: {rule["health"] for rule in server.alert_rules()} == {"ok"})

        eventually(lambda: unanswered(server) == [])
        rules = server.alert_rules()

    assert [rule["name"] for rule in rules] == [alert["alert"] for alert in ALERTS]
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def unanswered(server: Prometheus) -> list[str]:
    """The expressions of the dashboard of which Prometheus knows nothing."""
    return [
        expression
        for _, expression in dashboard_expressions()
        if not any(series in expression for series in EMPTY_WHILE_ALL_IS_WELL)
        if not server.query(with_variables(expression))
    ]


def value_of(result: list[Any]) -> float | None:
    return float(result[0]["value"][1]) if result else None


def with_variables(expression: str) -> str:
    """As Grafana fills them in where all are chosen."""
    for name in ("job", "instance", "queue"):
        expression = expression.replace(f'"${name}"', '".*"')
    return expression.replace("$__rate_interval", "1m")

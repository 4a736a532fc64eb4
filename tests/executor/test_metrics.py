"""The executor's metrics, as Prometheus gets them."""

from __future__ import annotations

import sqlite3
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from attune_executor.settings import ExecutorSettings
from tests.executor.harness import (
    SHIPPED,
    Harness,
    enforcement,
    eventually,
    free_port,
    running,
    settings_for,
)

QUEUE = "attune.executions.queue"


def scrape(harness: Harness) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    assert harness.executor.health is not None
    with urllib.request.urlopen(
        f"http://127.0.0.1:{harness.executor.health.port}/metrics"
    ) as answer:
        text = answer.read().decode()
    return {
        (sample.name.removeprefix("attune_mq_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(harness: Harness, name: str, **labels: str) -> float | None:
    return scrape(harness).get((name, frozenset(labels.items())))


def test_what_an_executor_did_can_be_read_at_metrics(observed: ExecutorSettings) -> None:
    with running(observed) as harness, harness.worker(), harness.publisher() as publisher:
        publisher.publish_many(enforcement(number) for number in range(5))
        eventually(lambda: harness.executions() == {"completed": 5})
        eventually(lambda: value(harness, "outbox_messages") == 0)
        main = {"queue": QUEUE, "purpose": "main"}
        eventually(lambda: value(harness, "queue_messages_unacked", **main) == 0)
        told = scrape(harness)

    consumed = {
        type_: sum(
            count
            for (name, labels), count in told.items()
            if name == "messages_consumed_total" and ("type", type_) in labels
        )
        for type_ in ("EnforcementCreated", "ExecutionRequested", "ExecutionCompleted")
    }
    assert consumed == {
        "EnforcementCreated": 5,
        "ExecutionRequested": 5,
        "ExecutionCompleted": 5,
    }
    assert told["database_up", frozenset()] == 1
    assert told["queue_consumers", frozenset(main.items())] == 3


def test_a_locked_database_is_told(tmp_path: Path, broker_url: str) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, health_port=free_port())
    with running(settings) as harness:
        eventually(lambda: value(harness, "database_up") == 1)
        other = sqlite3.connect(tmp_path / "attune.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        eventually(lambda: value(harness, "database_up") == 0)
        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: value(harness, "database_up") == 1)

"""While the database is locked or away the consumers pause: nothing is lost, counted, or dead."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from attune_mq.broker import QueueInspector
from tests.databases import PostgreSQLServer
from tests.executor.harness import (
    SHIPPED,
    Harness,
    dead_letter_queue,
    enforcement,
    eventually,
    free_port,
    is_red,
    ready,
    running,
    settings_for,
)


def dead_letters(harness: Harness) -> int | None:
    inspector = QueueInspector(harness.url)
    count = inspector.message_count(dead_letter_queue(harness.topology, "executions"))
    inspector.close()
    return count


def handled(harness: Harness) -> int:
    return sum(one.handled for one in harness.executor.service.consumers)


def attempts_counted(harness: Harness) -> int:
    return sum(one.retried + one.dead_lettered for one in harness.executor.service.consumers)


def states(harness: Harness) -> set[str]:
    return {one.state for one in harness.executor.service.consumers}


def test_on_either_database_enforcements_become_finished_executions(
    tmp_path: Path, broker_url: str, database_url: str
) -> None:
    with (
        running(settings_for(tmp_path, broker_url, SHIPPED, database_url)) as harness,
        harness.worker(),
        harness.publisher() as publisher,
    ):
        publisher.publish_many(enforcement(number) for number in range(30))

        eventually(lambda: harness.executions() == {"completed": 30})


def test_a_locked_sqlite_file_is_waited_for(
    tmp_path: Path, broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="attune_mq.consuming.pausing")
    with (
        running(settings_for(tmp_path, broker_url, SHIPPED)) as harness,
        harness.worker(),
        harness.publisher() as publisher,
    ):
        eventually(lambda: handled(harness) == 1)  # the worker's registration
        other = sqlite3.connect(tmp_path / "attune.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        publisher.publish_many(enforcement(number) for number in range(20))
        eventually(lambda: "paused" in states(harness))
        eventually(lambda: "database is locked" in caplog.text)  # said just after it is so
        assert handled(harness) == 1

        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: harness.executions() == {"completed": 20})
        assert dead_letters(harness) == 0
        assert "goes on after a pause" in caplog.text
        assert attempts_counted(harness) == 0


def test_thousands_of_messages_outlive_a_postgresql_that_is_stopped(
    tmp_path: Path,
    broker_url: str,
    postgresql_server: PostgreSQLServer,
    postgresql_url: str,
) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, postgresql_url, health_port=free_port())
    with (
        running(settings) as harness,
        harness.publisher() as publisher,
    ):
        eventually(lambda: ready(harness))
        postgresql_server.stop()
        try:
            publisher.publish_many(enforcement(number, "demo.off") for number in range(2_000))
            eventually(lambda: states(harness) == {"paused"})
            eventually(
                lambda: is_red(harness, "database") and is_red(harness, "consumer executor.manager")
            )
            assert handled(harness) == 0
        finally:
            postgresql_server.start()

        eventually(lambda: ready(harness))
        eventually(lambda: harness.enforcements() == {"disabled": 2_000}, within_s=120)
        assert dead_letters(harness) == 0
        assert attempts_counted(harness) == 0

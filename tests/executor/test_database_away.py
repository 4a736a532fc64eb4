"""While the database is locked or away the consumers pause: nothing is lost, counted, or dead."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from attune_mq import QueueInspector
from tests.databases import PostgreSQLServer
from tests.executor.harness import (
    SHIPPED,
    Rig,
    dead_letter_queue,
    enforcement,
    eventually,
    free_port,
    is_red,
    ready,
    running,
    settings_for,
)


def dead_letters(rig: Rig) -> int | None:
    inspector = QueueInspector(rig.url)
    count = inspector.message_count(dead_letter_queue(rig.topology, "executions"))
    inspector.close()
    return count


def handled(rig: Rig) -> int:
    return sum(one.handled for one in rig.executor.service.consumers)


def attempts_counted(rig: Rig) -> int:
    return sum(one.retried + one.dead_lettered for one in rig.executor.service.consumers)


def states(rig: Rig) -> set[str]:
    return {one.state for one in rig.executor.service.consumers}


def test_on_either_database_enforcements_become_finished_executions(
    tmp_path: Path, broker_url: str, database_url: str
) -> None:
    with (
        running(settings_for(tmp_path, broker_url, SHIPPED, database_url)) as rig,
        rig.worker(),
        rig.publisher() as publisher,
    ):
        publisher.publish_many(enforcement(number) for number in range(30))

        eventually(lambda: rig.executions() == {"completed": 30})


def test_a_locked_sqlite_file_is_waited_for(
    tmp_path: Path, broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="attune_mq.consuming.pausing")
    with (
        running(settings_for(tmp_path, broker_url, SHIPPED)) as rig,
        rig.worker(),
        rig.publisher() as publisher,
    ):
        eventually(lambda: handled(rig) == 1)  # the worker's registration
        other = sqlite3.connect(tmp_path / "attune.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        publisher.publish_many(enforcement(number) for number in range(20))
        eventually(lambda: "paused" in states(rig))
        eventually(lambda: "database is locked" in caplog.text)  # said just after it is so
        assert handled(rig) == 1

        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: rig.executions() == {"completed": 20})
        assert dead_letters(rig) == 0
        assert "goes on after a pause" in caplog.text
        assert attempts_counted(rig) == 0


def test_thousands_of_messages_outlive_a_postgresql_that_is_stopped(
    tmp_path: Path,
    broker_url: str,
    postgresql_server: PostgreSQLServer,
    postgresql_url: str,
) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, postgresql_url, health_port=free_port())
    with (
        running(settings) as rig,
        rig.publisher() as publisher,
    ):
        eventually(lambda: ready(rig))
        postgresql_server.stop()
        try:
            publisher.publish_many(enforcement(number, "demo.off") for number in range(2_000))
            eventually(lambda: states(rig) == {"paused"})
            eventually(lambda: is_red(rig, "database") and is_red(rig, "consumer executor.manager"))
            assert handled(rig) == 0
        finally:
            postgresql_server.start()

        eventually(lambda: ready(rig))
        eventually(lambda: rig.enforcements() == {"disabled": 2_000}, within_s=120)
        assert dead_letters(rig) == 0
        assert attempts_counted(rig) == 0

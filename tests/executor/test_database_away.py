"""A database that is locked or away is waited for: nothing is lost, nothing is dead-lettered."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from attune_mq import QueueInspector
from tests.databases import PostgreSQLServer
from tests.executor.rig import (
    ROOT,
    Rig,
    dead_letter_queue,
    enforcement,
    eventually,
    running,
    settings_for,
)

SHIPPED = ROOT / "topology.yaml"


def dead_letters(rig: Rig) -> int | None:
    inspector = QueueInspector(rig.url)
    count = inspector.message_count(dead_letter_queue(rig.topology, "executions"))
    inspector.close()
    return count


def handled(rig: Rig) -> int:
    return sum(one.handled for one in rig.executor.service.consumers)


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
    caplog.set_level(logging.INFO, logger="attune_mq.transactional")
    with (
        running(settings_for(tmp_path, broker_url, SHIPPED)) as rig,
        rig.worker(),
        rig.publisher() as publisher,
    ):
        eventually(lambda: handled(rig) == 1)  # the worker's registration
        other = sqlite3.connect(tmp_path / "attune.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        publisher.publish_many(enforcement(number) for number in range(20))
        eventually(lambda: "Waiting for the database: database is locked" in caplog.text)
        assert handled(rig) == 1

        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: rig.executions() == {"completed": 20})
        assert dead_letters(rig) == 0
        assert "The database answers again" in caplog.text


def test_a_postgresql_that_is_restarted_is_waited_for(
    tmp_path: Path,
    broker_url: str,
    postgresql_server: PostgreSQLServer,
    postgresql_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        running(settings_for(tmp_path, broker_url, SHIPPED, postgresql_url)) as rig,
        rig.worker(),
        rig.publisher() as publisher,
    ):
        eventually(lambda: handled(rig) == 1)
        postgresql_server.stop()
        try:
            publisher.publish_many(enforcement(number) for number in range(20))
            eventually(lambda: "Waiting for the database" in caplog.text)
            assert handled(rig) == 1
        finally:
            postgresql_server.start()

        eventually(lambda: rig.executions() == {"completed": 20})
        assert dead_letters(rig) == 0

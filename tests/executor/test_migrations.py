from __future__ import annotations

import multiprocessing
import re
import sqlite3
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Barrier

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from attune_executor import tables
from attune_executor.migrations import configuration, upgrade
from attune_executor.store import migrate
from attune_mq.errors import DatabaseUnavailable, InvalidInput
from attune_mq.transactional import create_database_engine

EVERY_TABLE = {
    "attune_executor_version",
    "attune_inbox",
    "attune_outbox",
    "enforcements",
    "executions",
    "workers",
}


def migrate_in_another_process(url: str) -> None:
    migrate(create_database_engine(url))


def test_an_empty_database_gets_every_table(engine: Engine) -> None:
    migrate(engine)
    assert set(inspect(engine).get_table_names()) == EVERY_TABLE


def test_migrating_a_second_time_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)
    assert set(inspect(engine).get_table_names()) == EVERY_TABLE


def test_the_migrations_make_what_the_code_declares(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "attune_executor_version", "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []


def test_the_migrations_make_the_same_statements_as_the_code(tmp_path: Path) -> None:
    """Alembic does not compare partial indexes and AUTOINCREMENT; SQLite keeps every statement."""
    declared = create_database_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    migrated = create_database_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    tables.metadata.create_all(declared)
    migrate(migrated)

    assert _words(migrated) == _words(declared)


def _words(engine: Engine) -> dict[str, list[str]]:
    query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%version%' AND sql > ''"
    with engine.connect() as connection:
        return {
            name: sorted(re.findall(r"\w+|'[^']*'|[<>=]+", sql))
            for name, sql in connection.execute(text(query))
        }


def test_many_processes_that_start_on_an_empty_database_all_succeed(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=spawn) as pool:
        list(pool.map(migrate_in_another_process, [database_url] * 4))
    assert set(inspect(create_database_engine(database_url)).get_table_names()) == EVERY_TABLE


def test_many_threads_that_start_on_an_empty_database_all_succeed(database_url: str) -> None:
    start = Barrier(6)

    def migrate_at_once(_: int) -> None:
        engine = create_database_engine(database_url)
        start.wait()
        migrate(engine)
        engine.dispose()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate_at_once, range(6)))
    assert set(inspect(create_database_engine(database_url)).get_table_names()) == EVERY_TABLE


def test_who_migrates_while_another_does_waits_for_it_and_finds_it_done(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool, engine.connect() as first:
        first.begin()
        upgrade(first, timeout_s=60)
        second = pool.submit(migrate, engine)
        finished, _ = wait([second], timeout=0.2)
        assert not finished, "the second migration did not wait for the first"
        first.commit()
        second.result(60)
    assert set(inspect(engine).get_table_names()) == EVERY_TABLE


def test_an_execution_that_had_begun_before_the_upgrade_has_begun_after_it(engine: Engine) -> None:
    with engine.begin() as tx:
        command.upgrade(configuration(tx), "0002")
        for status in ("scheduled", "running", "canceling"):
            tx.execute(
                text(
                    "INSERT INTO executions"
                    " (action_ref, status, scheduling_attempts, created_at_us, updated_at_us)"
                    " VALUES ('core.echo', :status, 1, 1, 2)"
                ),
                {"status": status},
            )
    migrate(engine)
    with engine.begin() as tx:
        found = tx.execute(text("SELECT status, started_at_us FROM executions")).all()
    assert {tuple(row) for row in found} == {
        ("scheduled", None),
        ("running", 2),
        ("canceling", 2),
    }


def test_a_database_of_a_newer_executor_is_refused(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as tx:
        tx.execute(text("UPDATE attune_executor_version SET version_num = '9999'"))
    with pytest.raises(InvalidInput, match=r"newer attune_executor.*9999"):
        migrate(engine)


def test_a_database_that_stays_locked_is_reported_as_unavailable(sqlite_url: str) -> None:
    engine = create_database_engine(sqlite_url, busy_timeout_ms=10)
    migrate(engine)
    with engine.begin(), pytest.raises(DatabaseUnavailable, match="database is locked"):
        migrate(engine, timeout_s=0.1)


def test_a_server_that_is_away_is_reported_as_unavailable(tmp_path: Path) -> None:
    engine = create_database_engine(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="locked or unreachable"):
        migrate(engine, timeout_s=0.1)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "not.db").write_text("These are the words of somebody else. " * 100)
    with pytest.raises(InvalidInput, match="file is not a database"):
        migrate(create_database_engine(f"sqlite:///{tmp_path / 'not.db'}"))


def test_a_folder_with_a_percent_sign_is_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / "100%(here)s"
    folder.mkdir()
    migrate(create_database_engine(f"sqlite:///{folder / 'attune.db'}"))
    with sqlite3.connect(folder / "attune.db") as connection:
        assert connection.execute("SELECT count(*) FROM executions").fetchone() == (0,)

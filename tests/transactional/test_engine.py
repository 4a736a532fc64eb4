from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest
import sqlalchemy.exc
from sqlalchemy import Connection, Engine, text

from attune_mq.errors import InvalidInput
from attune_mq.transactional import create_database_engine, describe, is_transient, reading
from tests.databases import PostgreSQLServer


@pytest.fixture
def counter(engine: Engine) -> Engine:
    """A database with one table that holds one number."""
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE counter (n INTEGER NOT NULL CHECK (n < 1000))"))
        tx.execute(text("INSERT INTO counter VALUES (0)"))
    return engine


def read(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT n FROM counter")).scalar_one())


def failure_of(engine: Engine, statement: str) -> sqlalchemy.exc.DBAPIError:
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, engine.begin() as tx:
        tx.execute(text(statement))
    return caught.value


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
)
def test_sqlite_is_set_so_that_no_commit_is_lost(
    sqlite_url: str, pragma: str, value: object
) -> None:
    with create_database_engine(sqlite_url).connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_a_rollback_undoes_everything_also_the_making_of_a_table(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE gone (n INTEGER)"))
        connection.execute(text("INSERT INTO gone VALUES (1)"))
        connection.rollback()
    assert "gone" in describe(failure_of(engine, "SELECT * FROM gone"))


def test_transactions_that_read_and_then_write_lose_no_update_on_sqlite(sqlite_url: str) -> None:
    engine = create_database_engine(sqlite_url)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE counter (n INTEGER NOT NULL)"))
        tx.execute(text("INSERT INTO counter VALUES (0)"))

    def increment(_: int) -> None:
        with engine.begin() as tx:
            n = tx.execute(text("SELECT n FROM counter")).scalar_one()
            tx.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(40)))
    assert read(engine) == 40


def commit(connection: Connection) -> None:
    connection.commit()


def roll_back(connection: Connection) -> None:
    connection.rollback()


def be_refused(connection: Connection) -> None:
    with pytest.raises(sqlalchemy.exc.DBAPIError):
        connection.execute(text("SELECT * FROM nowhere"))


def break_off(connection: Connection) -> None:
    connection.invalidate()


@pytest.mark.parametrize("end", [commit, roll_back, be_refused, break_off])
def test_the_next_writer_has_its_turn_however_a_transaction_ends(
    sqlite_url: str, end: Callable[[Connection], None]
) -> None:
    engine = create_database_engine(sqlite_url, busy_timeout_ms=3_600_000)
    with engine.connect() as connection:
        connection.begin()
        end(connection)

    written = Event()

    def write() -> None:
        with engine.begin() as tx:
            tx.execute(text("CREATE TABLE IF NOT EXISTS written (n INTEGER)"))
        written.set()

    Thread(target=write, daemon=True).start()
    assert written.wait(60), "the turn was never given back"


def test_a_reader_waits_for_no_writer_and_sees_one_state(counter: Engine) -> None:
    with counter.begin() as writer:
        writer.execute(text("UPDATE counter SET n = 1"))
        with reading(counter) as tx:
            assert tx.execute(text("SELECT n FROM counter")).scalar_one() == 0
            writer.commit()
            assert tx.execute(text("SELECT n FROM counter")).scalar_one() == 0
    assert read(counter) == 1


def test_a_connection_that_only_read_writes_again_afterwards(counter: Engine) -> None:
    with reading(counter) as tx:
        tx.execute(text("SELECT n FROM counter"))
    with counter.begin() as tx:
        tx.execute(text("UPDATE counter SET n = n + 1"))
    assert read(counter) == 1


def test_a_locked_sqlite_database_is_transient_and_usable_once_it_is_free(sqlite_url: str) -> None:
    engine = create_database_engine(sqlite_url, busy_timeout_ms=10)
    with engine.begin():
        error = failure_of(engine, "SELECT 1")
    assert is_transient(error)
    assert describe(error) == "database is locked"
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE there (n INTEGER)"))


def test_a_database_that_is_locked_before_the_first_connection_is_transient(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute("CREATE TABLE theirs (n INTEGER)")
    theirs.execute("BEGIN EXCLUSIVE")
    engine = create_database_engine(f"sqlite:///{path}", busy_timeout_ms=10)
    assert is_transient(failure_of(engine, "SELECT 1"))
    theirs.execute("COMMIT")
    theirs.close()
    with engine.begin() as tx:
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_full_sqlite_database_is_transient(sqlite_url: str) -> None:
    engine = create_database_engine(sqlite_url, pool_size=1)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE heap (bytes BLOB)"))
        tx.exec_driver_sql("PRAGMA max_page_count = 4")
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            tx.execute(text("INSERT INTO heap VALUES (zeroblob(100000))"))
    assert is_transient(caught.value)


def test_an_sqlite_file_that_cannot_be_opened_is_transient(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    engine = create_database_engine(f"sqlite:///{folder / 'attune.db'}")
    folder.rmdir()
    assert is_transient(failure_of(engine, "SELECT 1"))


def test_a_statement_that_is_refused_is_not_transient(counter: Engine) -> None:
    assert not is_transient(failure_of(counter, "SELECT * FROM nowhere"))
    assert not is_transient(failure_of(counter, "UPDATE counter SET n = 1000"))
    assert not is_transient(failure_of(counter, "UPDATE counter SET n = NULL"))


def test_an_error_that_is_not_the_databases_is_not_transient() -> None:
    assert not is_transient(ValueError("no"))
    assert not is_transient(sqlalchemy.exc.InvalidRequestError("no"))


def test_a_pool_whose_connections_are_all_in_use_is_transient() -> None:
    assert is_transient(sqlalchemy.exc.TimeoutError("QueuePool limit reached"))


def test_a_server_that_stops_under_a_connection_is_transient_and_the_engine_recovers(
    postgresql_server: PostgreSQLServer, postgresql_url: str
) -> None:
    engine = create_database_engine(postgresql_url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        postgresql_server.stop()
        try:
            with pytest.raises(sqlalchemy.exc.DBAPIError) as cut:
                connection.execute(text("SELECT 1"))
            away = failure_of(engine, "SELECT 1")
        finally:
            postgresql_server.start()
    assert is_transient(cut.value)
    assert is_transient(away)
    with engine.begin() as tx:
        assert tx.execute(text("SELECT 1")).scalar() == 1


def test_a_lock_that_is_not_to_be_had_and_a_cancelled_statement_are_transient(
    postgresql_url: str,
) -> None:
    engine = create_database_engine(postgresql_url)
    assert is_transient(failure_of(engine, "SET statement_timeout = 1; SELECT pg_sleep(10)"))
    with engine.begin() as holder:
        holder.execute(text("SELECT pg_advisory_lock(1)"))
        asked = failure_of(engine, "SET LOCAL lock_timeout = 1; SELECT pg_advisory_lock(1)")
    assert is_transient(asked)


def test_a_deadlock_is_transient_for_the_one_that_lost(postgresql_url: str) -> None:
    engine = create_database_engine(postgresql_url)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER)"))
        tx.execute(text("INSERT INTO pair VALUES (1, 0), (2, 0)"))
    touch = text("UPDATE pair SET n = n + 1 WHERE id = :id")

    with ThreadPoolExecutor(2) as pool, engine.connect() as first, engine.connect() as second:
        first.execute(touch, {"id": 1})
        second.execute(touch, {"id": 2})
        crossed = [
            pool.submit(first.execute, touch, {"id": 2}),
            pool.submit(second.execute, touch, {"id": 1}),
        ]
        losses = [error for update in crossed if (error := update.exception(30)) is not None]
    assert [is_transient(loss) for loss in losses] == [True]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("not a url", "cannot be read"),
        ("mysql://user@host/db", "expected sqlite or postgresql"),
        ("postgresql+psycopg2://user@host/db", "expected sqlite or postgresql"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:shared?mode=memory&uri=true", "in memory"),
        ("sqlite:////nowhere/at/all/attune.db", "does not exist"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_what_was_expected(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        create_database_engine(url)


@pytest.mark.parametrize(
    "url", ["postgresql:/admin:geheim@host/db", "mysql://admin:geheim@host", "geheim", ":geheim@"]
)
def test_a_password_stands_in_no_error_about_a_url(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        create_database_engine(url)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_values_stand_in_no_error_of_the_database(counter: Engine) -> None:
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, counter.begin() as tx:
        tx.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "geheim"})
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_name_of_postgresql_means_psycopg(scheme: str) -> None:
    engine = create_database_engine(f"{scheme}://user@host/db?connect_timeout=3")
    assert engine.dialect.driver == "psycopg"


def test_a_file_of_another_program_can_be_used_beside_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE theirs (n INTEGER)")
    theirs.close()
    with create_database_engine(f"sqlite:///{path}").begin() as tx:
        tx.execute(text("INSERT INTO theirs VALUES (1)"))
        tx.execute(text("CREATE TABLE ours (n INTEGER)"))

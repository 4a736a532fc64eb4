"""A transaction of a handler is done, or says that the database is away."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from attune_mq.errors import DatabaseUnavailable, DependencyUnavailable
from attune_mq.transactional import create_database_engine, run_in_transaction_with_retry


@pytest.fixture
def counter(engine: Engine) -> Engine:
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE counter (id integer PRIMARY KEY, value integer)"))
        tx.execute(text("INSERT INTO counter VALUES (1, 0)"))
    return engine


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_transaction_that_lost_against_another_is_done_again(counter: Engine) -> None:
    others = [1, 1]

    def increment() -> int:
        with counter.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
            value = connection.execute(text("SELECT value FROM counter")).scalar_one()
            if others:
                others.pop()
                with counter.begin() as other:
                    other.execute(text("UPDATE counter SET value = value + 10"))
            connection.execute(text("UPDATE counter SET value = :next"), {"next": value + 1})
            connection.commit()
            return int(value) + 1

    assert run_in_transaction_with_retry(increment) == 21
    assert others == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_one_that_always_loses_is_given_up(counter: Engine) -> None:
    def lose() -> None:
        with counter.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
            connection.execute(text("SELECT value FROM counter")).scalar_one()
            with counter.begin() as other:
                other.execute(text("UPDATE counter SET value = value + 10"))
            connection.execute(text("UPDATE counter SET value = 1"))

    with pytest.raises(DatabaseUnavailable, match="could not serialize"):
        run_in_transaction_with_retry(lose)


def test_a_locked_database_is_a_dependency_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    engine = create_database_engine(f"sqlite:///{path}", busy_timeout_ms=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    def write() -> None:
        with engine.begin() as tx:
            tx.execute(text("CREATE TABLE t (id integer)"))

    with pytest.raises(DependencyUnavailable, match="database is locked") as caught:
        run_in_transaction_with_retry(write)

    assert caught.value.dependency == "database"
    other.close()
    run_in_transaction_with_retry(write)
    engine.dispose()


def test_what_another_attempt_will_not_mend_is_raised_as_it_is(counter: Engine) -> None:
    def write_twice() -> None:
        with counter.begin() as tx:
            tx.execute(text("INSERT INTO counter VALUES (1, 0)"))

    with pytest.raises(IntegrityError):
        run_in_transaction_with_retry(write_twice)

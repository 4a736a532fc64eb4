"""What the databases suffer is what it is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from attune_mq.transactional import create_database_engine
from tests.faults import effects
from tests.faults.stores import PostgreSQLDatabases, SQLiteFiles, Stores, small_disk


def effect(engine: Engine) -> None:
    with engine.begin() as tx:
        effects.have_effect(tx, "request", 1, "tests" * 2_000)


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    if request.param == "sqlite":
        yield SQLiteFiles(tmp_path)
        return
    databases = PostgreSQLDatabases(request.getfixturevalue("postgresql_server"))
    yield databases
    databases.close()


@pytest.fixture
def engine(stores: Stores) -> Iterator[Engine]:
    other = create_database_engine(stores.url("executor"))
    effects.metadata.create_all(other)
    other.dispose()
    engine = create_database_engine(stores.url("effects"), busy_timeout_ms=100)
    effects.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_a_locked_database_takes_no_message_in(stores: Stores, engine: Engine) -> None:
    def take_in() -> None:
        with engine.begin() as tx:
            if engine.dialect.name == "postgresql":
                tx.exec_driver_sql("SET LOCAL lock_timeout = 100")
            tx.execute(
                effects.messages.inbox.insert().values(
                    scope="", message_id="m-1", consumer="tests", accepted_at_us=0
                )
            )

    with stores.locked(), pytest.raises(OperationalError, match="lock"):
        take_in()
    take_in()


def test_a_database_that_is_gone_lets_nobody_in(stores: Stores, engine: Engine) -> None:
    effect(engine)
    engine.dispose()

    with stores.gone(), pytest.raises(OperationalError):
        effect(engine)
    effect(engine)


def test_a_full_disk_is_what_sqlite_calls_full(tmp_path: Path) -> None:
    with small_disk(tmp_path, "8m") as is_small:
        if not is_small:
            pytest.skip("a disk of its own needs root's rights")
        files = SQLiteFiles(tmp_path, on_a_small_disk=True)
        engine = create_database_engine(files.url("effects"))
        effects.metadata.create_all(engine)

        with files.full(), pytest.raises(OperationalError, match="full"):
            effect(engine)
        effect(engine)
        assert effects.counted(engine, "request") == {1: 1}
        engine.dispose()

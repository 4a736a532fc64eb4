from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, MetaData

from attune_mq.transactional import Outbox, Tables, define_tables


def pytest_configure(config: pytest.Config) -> None:
    # By name and once for the whole run: one PostgreSQL server for all folders that ask for it.
    config.pluginmanager.import_plugin("tests.databases")


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    moment: datetime = field(default=datetime(2026, 9, 3, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tables(engine: Engine) -> Tables:
    metadata = MetaData()
    tables = define_tables(metadata)
    metadata.create_all(engine)
    return tables


@pytest.fixture
def outbox(tables: Tables, clock: Clock) -> Outbox:
    return Outbox(tables.outbox, source_service="tests", now=clock)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attune_executor.settings import ExecutorSettings
from attune_mq.broker import EmbeddedBroker
from tests.executor.harness import SHIPPED, free_port, settings_for
from tests.executor.two_executors import Pair, two_executors


def pytest_configure(config: pytest.Config) -> None:
    # By name and once for the whole run: one PostgreSQL server for all folders that ask for it.
    config.pluginmanager.import_plugin("tests.databases")


@pytest.fixture
def observed(tmp_path: Path, broker: EmbeddedBroker, broker_url: str) -> ExecutorSettings:
    """Of an executor that tells its health and may ask the HTTP API."""
    return settings_for(
        tmp_path,
        broker_url,
        SHIPPED,
        health_port=free_port(),
        management_url=broker.management_url,
    )


@pytest.fixture
def pair(database_url: str) -> Iterator[Pair]:
    """Two executors; the test runs once on each kind of database."""
    with two_executors(database_url) as pair:
        yield pair

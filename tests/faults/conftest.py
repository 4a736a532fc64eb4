from __future__ import annotations

from collections.abc import Iterator

import pytest

from attune_mq.broker import EmbeddedBroker


def pytest_configure(config: pytest.Config) -> None:
    # By name and once for the whole run: one PostgreSQL server for all folders that ask for it.
    config.pluginmanager.import_plugin("tests.databases")


@pytest.fixture(scope="package")
def suffering_broker() -> Iterator[EmbeddedBroker]:
    """A node for faults alone. A migration waits until its HTTP API has counted anew."""
    with EmbeddedBroker(management=True, config={"collect_statistics_interval": 500}) as node:
        yield node

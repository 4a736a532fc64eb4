from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # By name and once for the whole run: one PostgreSQL server for all folders that ask for it.
    config.pluginmanager.import_plugin("tests.databases")

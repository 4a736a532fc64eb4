"""``make migrations`` ends with a table of what it did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.messaging.bench import Bench
from tests.migration.bench import OLD

COLUMNS = ("change", "kills", "messages", "refused", "lost", "doubled", "overtaken")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Of tests that recorded how often they killed."""
    rows = [
        dict(report.user_properties)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and "kills" in dict(report.user_properties)
    ]
    if rows:
        terminalreporter.section("killed migrations")
        for row in ({name: name for name in COLUMNS}, dict.fromkeys(COLUMNS, "---"), *rows):
            cells = " | ".join(str(row.get(name, "")) for name in COLUMNS)
            terminalreporter.write_line(f"| {cells} |")


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    bench.set_up(OLD)
    yield bench
    bench.close()

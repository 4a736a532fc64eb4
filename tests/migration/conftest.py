"""``make migrations`` ends with a table of what it did."""

from __future__ import annotations

import pytest

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

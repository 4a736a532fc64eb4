"""Starting migrations that die."""

from __future__ import annotations

import os
import subprocess
import sys

SETTLE_S = "3"
"""However busy the machine is, the consumer does not hold a message for so long."""
KILLED = -9
ALL = os.environ.get("ATTUNE_MIGRATION_KILLS") == "all"
"""Whether to kill before each thing that a migration does: ``make migrations``."""


def is_killed(url: str, topology: str, dies_before: int) -> bool:
    """Migrates in a process that dies before the so many-th thing that it does, if it does so
    many; then it is done."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.migration.dying_migration", url, topology,
         str(dies_before), SETTLE_S],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode in (0, KILLED), ended.stderr
    return ended.returncode == KILLED

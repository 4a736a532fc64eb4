"""Starting migrations that die."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from attune_mq.migration.report import Step

TIMEOUT_S = 300.0
"""A deadline against hanging."""


class Death(NamedTuple):
    """Before the ``act``-th thing, from 1, that a migration does to the broker in ``step``."""

    step: Step
    act: int


class Ended(NamedTuple):
    """``acts``: how many things it did in each step; empty where it was killed."""

    is_killed: bool
    acts: Mapping[Step, int]


def migrate_in_a_process(
    url: str,
    management_url: str,
    topology: str,
    death: Death | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Ended:
    """A migration that dies there, if it comes so far; otherwise it is done in the end."""
    where = () if death is None else (death.step.name, str(death.act))
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [sys.executable, "-m", "tests.migration.dying_migration", url, management_url,
             topology, *where],
            stdout=subprocess.PIPE, stderr=complaints, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        counts = _follow(process.stdout, on_step)
        exit_code = process.wait()
        is_late = not watchdog.is_alive()
        watchdog.cancel()
        complaints.seek(0)
        assert exit_code in (0, -signal.SIGKILL), complaints.read()
        assert not is_late, f"not ended within {TIMEOUT_S} s: {complaints.read()}"
    return Ended(exit_code != 0, {Step[name]: count for name, count in counts.items()})


def _follow(lines: Iterator[str], on_step: Callable[[Step], None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in lines:
        if line.startswith("{"):
            counts = json.loads(line)
        else:
            on_step(Step[line.strip()])
    return counts

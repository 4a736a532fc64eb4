"""How long a process takes to begin, and what an idle executor weighs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.results import Ratio, Section, interleave
from benchmarks.running import Run

ROOT = Path(__file__).parents[2]
LIBRARIES = "import pika, pydantic, yaml"
COMMAND = str(Path(sys.executable).with_name("attune-mq"))
_BARE, _LIBRARIES = "bare Python", "pika, pydantic and PyYAML"
_OURS, _ALL = "attune: import", "attune: import, all names"
_HELP, _LINT = "attune-mq --help", "attune-mq lint"


def measure(run: Run) -> list[Section]:
    python = [sys.executable, "-c"]
    commands = {
        _BARE: [*python, "pass"],
        _LIBRARIES: [*python, LIBRARIES],
        _OURS: [*python, f"{LIBRARIES}; import attune_mq"],
        _ALL: [*python, "from attune_mq import *"],
        _HELP: [COMMAND, "--help"],
        _LINT: [COMMAND, "lint"],
    }
    measured: dict[str, Callable[[], float]] = {
        name: partial(_milliseconds, command) for name, command in commands.items()
    }
    section = Section("starting", "Starting a process", "ms")
    section.ratios = [Ratio(_OURS, _LIBRARIES, at_most=1.2)]
    interleave(section, max(3, 3 * run.repeats), measured)
    section.notes += _limits(section)
    return [section]


def _limits(section: Section) -> list[str]:
    if not {_BARE, _HELP, _LINT} <= section.series.keys():
        return []
    help_ms = section.median(_HELP) - section.median(_BARE)
    return [
        f"`attune-mq --help` takes {help_ms:.0f} ms more than bare Python (wanted: 100 at most); "
        f"`attune-mq lint` {section.median(_LINT):.0f} ms (wanted: 500 at most)."
    ]


def _milliseconds(command: list[str]) -> float:
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=ROOT, check=False)
    if done.returncode > 1:  # lint says with 1 that it found something
        raise RuntimeError(done.stderr.decode()[-300:])
    return (time.perf_counter() - began) * 1_000

"""Runs one client in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.clients.measuring import Task, Timing

TIMEOUT_S = 300.0
_C_SOURCE = Path(__file__).with_name("librabbitmq.c")


def run_client(name: str, task: Task) -> Timing:
    """Raises ``RuntimeError`` with what the client said when it failed."""
    command = [sys.executable, "-m", "benchmarks.clients", name, task.url, task.queue]
    return _run([*command, str(task.messages), str(task.prefetch)])


def run_c(program: Path, task: Task, *, ack_every: int) -> Timing:
    url = urlsplit(task.url)
    where = [str(url.hostname), str(url.port), task.queue, str(task.messages), str(task.prefetch)]
    return _run([str(program), *where, str(ack_every)])


def build_c(folder: Path) -> Path | None:
    """``None`` where there is no C compiler, or no librabbitmq to link."""
    program = folder / "librabbitmq"
    command = ["cc", "-O2", "-Wno-deprecated-declarations", "-o", str(program), str(_C_SOURCE)]
    try:
        built = subprocess.run([*command, "-lrabbitmq"], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return program if built.returncode == 0 else None


def _run(command: list[str]) -> Timing:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-2_000:]}")
    return Timing(**json.loads(done.stdout))

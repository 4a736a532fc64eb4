"""What is left of a private node: looked up in the list of processes, not asked of our own code."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.waiting import wait_until


def processes_of(directory: Path) -> list[int]:
    """The living processes with this directory in their environment or arguments."""
    if Path("/proc/self/environ").exists():
        return [pid for pid in _pids() if str(directory).encode() in _told(pid)]
    listed = subprocess.run(
        ["ps", "-axwwE", "-o", "pid=,command="], capture_output=True, text=True, check=True
    )
    return [int(row.split()[0]) for row in listed.stdout.splitlines() if str(directory) in row]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _told(pid: int) -> bytes:
    """Environment and arguments; nothing for a process that has just ended, or is not ours."""
    try:
        return b"".join((Path("/proc") / str(pid) / name).read_bytes() for name in FILES)
    except OSError:
        return b""


FILES = ("environ", "cmdline")


def wait_until_gone(directory: Path) -> None:
    """Return when no process of this directory lives and the directory is not there either."""
    wait_until(lambda: not directory.exists(), f"{directory} is removed")
    wait_until(lambda: not processes_of(directory), f"the processes of {directory} end")

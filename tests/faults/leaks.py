"""What a process holds: threads, connections, files. Read off ``/proc``."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOKS, LOOK_EVERY_S = 10, 0.05
NOT_COUNTED = ("socket:", ".db", "faketime_shm")


@dataclass(frozen=True)
class Belongings:
    """``files``: open files, pipes and the like; not those of the database, and not its sockets,
    which a pool opens and keeps as they are needed; nor those of libfaketime, which not each start
    of a process opens (measured: one of many had none)."""

    threads: int
    connections: int
    files: int

    def fits(self, needed: Belongings) -> bool:
        return (
            self.threads <= needed.threads
            and self.connections <= needed.connections
            and self.files <= needed.files
        )


def belongings_of(pid: int) -> Belongings:
    """The least of some looks, since some of it comes and goes: who asks for its health has a
    connection for that moment."""
    looks = [_look(pid) for _ in range(LOOKS) if not threading.Event().wait(LOOK_EVERY_S)]
    return Belongings(
        min(look.threads for look in looks),
        min(look.connections for look in looks),
        min(look.files for look in looks),
    )


def _look(pid: int) -> Belongings:
    process = Path("/proc") / str(pid)
    targets = [target for entry in (process / "fd").iterdir() if (target := _target(entry))]
    tcp = _inodes(process / "net" / "tcp")
    return Belongings(
        threads=len(list((process / "task").iterdir())),
        connections=sum(target in tcp for target in targets),
        files=sum(not any(other in target for other in NOT_COUNTED) for target in targets),
    )


def _target(entry: Path) -> str | None:
    with suppress(OSError):  # it was closed meanwhile
        return os.readlink(entry)
    return None


def _inodes(table: Path) -> frozenset[str]:
    """As the descriptors' links name them. The tenth column of the table is the inode."""
    rows = table.read_text().splitlines()[1:]
    return frozenset(f"socket:[{row.split()[9]}]" for row in rows)

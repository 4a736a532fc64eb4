"""A private PostgreSQL server, which flushes what it commits to the disk, as a service's does."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_PROGRAMS = "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"


def programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` are, if they are anywhere."""
    found = [folder for pattern in _PROGRAMS for folder in sorted(glob.glob(pattern))]
    beside = shutil.which("initdb")
    return Path(found[-1]) if found else Path(beside).parent if beside else None


@contextmanager
def server(folder_of_programs: Path) -> Iterator[str]:
    """Yields SQLAlchemy's URL of its database; another database of it ends in another name."""
    with TemporaryDirectory(prefix="attune-bench-pg-") as name:
        folder = Path(name)
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
        else:
            user = []
        data = str(folder / "data")
        make = [str(folder_of_programs / "initdb"), "--username=postgres", "--auth=trust"]
        subprocess.run([*user, *make, data], check=True, capture_output=True, cwd=folder)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
        process = subprocess.Popen(
            [*user, str(folder_of_programs / "postgres"), "-D", data, *options],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(folder / ".s.PGSQL.5432")
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(socket: Path, timeout_s: float = 30.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not socket.exists():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"PostgreSQL did not start in {timeout_s:g} s")
        time.sleep(0.05)
    time.sleep(0.5)  # the socket is there a moment before it answers

"""The databases of a scene, and what can happen to them: locked, slow, gone, full."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

import psycopg

from tests.databases import PostgreSQLServer
from tests.faults.effects import messages

NAMES = ("executor", "effects")
LOCKED_WITHIN_S = 30.0
LOCK_INBOX = f"LOCK TABLE {messages.inbox.name} IN EXCLUSIVE MODE".encode()
SLOW_FOR_S, FREE_FOR_S = 0.4, 0.05


class Stores(Protocol):
    """Both databases of a scene."""

    def url(self, name: str) -> str: ...

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else can write while the context lasts."""

    @contextmanager
    def gone(self) -> Iterator[None]: ...


def slow(stores: Stores, lasts_s: float) -> None:
    """Locked most of the time: each transaction waits for its turn."""
    until = time.monotonic() + lasts_s
    while time.monotonic() < until:
        with stores.locked():
            threading.Event().wait(SLOW_FOR_S)
        threading.Event().wait(FREE_FOR_S)


class SQLiteFiles:
    """Two files in a folder; ``folder`` may lie on a disk of its own, a small one."""

    def __init__(self, folder: Path, *, on_a_small_disk: bool = False) -> None:
        self.on_a_small_disk = on_a_small_disk
        self._folder = folder / "databases"
        self._folder.mkdir()

    def url(self, name: str) -> str:
        return f"sqlite:///{self._folder / name}.db"

    @contextmanager
    def locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in NAMES:
                path = self._folder / f"{name}.db"
                if path.exists():
                    stack.enter_context(_locked_file(path))
            yield

    @contextmanager
    def gone(self) -> Iterator[None]:
        """As when a disk is unmounted: files that are open stay, no other can be opened."""
        away = self._folder.with_name("away")
        self._folder.rename(away)
        try:
            yield
        finally:
            away.rename(self._folder)

    @contextmanager
    def full(self) -> Iterator[None]:
        """The disk has no byte left. Only for a folder on a disk of its own."""
        filler = self._folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                _fill(file)
            yield
        finally:
            filler.unlink()


def _fill(file: IO[bytes]) -> None:
    for size_bytes in (1 << 20, 1 << 12, 1):
        with suppress(OSError):  # ENOSPC
            while True:
                file.write(bytes(size_bytes))


@contextmanager
def _locked_file(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, timeout=LOCKED_WITHIN_S, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


class PostgreSQLDatabases:
    """Two databases of one server."""

    def __init__(self, server: PostgreSQLServer) -> None:
        self._server = server
        self._names = {name: server.create_database() for name in NAMES}

    def url(self, name: str) -> str:
        return self._server.url(self._names[name])

    def close(self) -> None:
        for name in self._names.values():
            self._server.drop_database(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The inboxes are: every transaction of a handler begins with one of them."""
        with ExitStack() as stack:
            for name in NAMES:
                where = f"host={self._server.folder} user=postgres dbname={self._names[name]}"
                connection = stack.enter_context(psycopg.connect(where))
                if _has_an_inbox(connection):
                    connection.execute(LOCK_INBOX)
            yield

    @contextmanager
    def gone(self) -> Iterator[None]:
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()


def _has_an_inbox(connection: psycopg.Connection) -> bool:
    found = connection.execute("SELECT to_regclass(%s)", [messages.inbox.name]).fetchone()
    return found is not None and found[0] is not None


@contextmanager
def small_disk(folder: Path, size: str = "256m") -> Iterator[bool]:
    """A disk of its own at ``folder`` while the context lasts; whether that could be had: it needs
    root's rights."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    try:
        yield mount.returncode == 0
    finally:
        if mount.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

"""The databases that the tests run on: SQLite files, and a PostgreSQL server of the tests' own.

Loaded as a pytest plugin by the ``conftest.py`` of the folders that need a database. A test that
takes ``engine`` runs once on each database, every time on an empty one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from sqlalchemy import Engine

from attune_mq.transactional import create_database_engine
from tests.waiting import wait_until

_PROGRAM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_SETTINGS = {
    "listen_addresses": "",  # a socket in the server's own folder, no port
    "fsync": "off",  # the tests kill processes, not machines
    "max_connections": "60",
}


@dataclass
class PostgreSQLServer:
    """A private server, reached through a socket in its own folder; ended by its pid."""

    programs: Path
    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def initialise(self) -> None:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, "postgres", "postgres")
        options = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(
            [*_as_postgres(), str(self.programs / "initdb"), f"--pgdata={self._data}", *options],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )

    def start(self) -> None:
        settings = _SETTINGS | {"unix_socket_directories": str(self.folder)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_postgres(), str(self.programs / "postgres"), "-D", str(self._data), *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, "PostgreSQL answers")

    def stop(self) -> None:
        """Disconnect everybody and stop (PostgreSQL's "fast" shutdown)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=60)
            self._process = None

    def create_database(self) -> str:
        name = f"test_{secrets.token_hex(6)}"
        self._administer(f'CREATE DATABASE "{name}" STRATEGY wal_log')
        return name

    def drop_database(self, name: str) -> None:
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"PostgreSQL ended:\n{(self.folder / 'server.log').read_text()}")
        try:
            self._administer("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _administer(self, statement: str) -> None:
        where = f"host={self.folder} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """The session's own PostgreSQL server. Where it is not installed: skipped, in CI failed."""
    with own_postgresql_server() as server:
        yield server


@contextmanager
def own_postgresql_server() -> Iterator[PostgreSQLServer]:
    """A server that is there while the context lasts."""
    programs = _find_programs()
    # Not below pytest's temporary folder: that one is closed to the user postgres.
    folder = Path(tempfile.mkdtemp(prefix="attune-pg-"))
    server = PostgreSQLServer(programs, folder)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQLServer) -> Iterator[str]:
    name = postgresql_server.create_database()
    yield postgresql_server.url(name)
    postgresql_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database; the test runs once on each kind.

    For one kind: ``@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)``.
    """
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on an empty database; the test runs once on each kind."""
    engine = create_database_engine(database_url)
    yield engine
    engine.dispose()


def _find_programs() -> Path:
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for pattern in _PROGRAM_FOLDERS:
        folders += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    usable = [one for one in folders if (one / "initdb").exists() and (one / "postgres").exists()]
    if not usable:
        _unavailable("PostgreSQL's server programs (initdb, postgres) are not installed")
    return usable[0]


def _as_postgres() -> list[str]:
    """The start of a command that gives up root, and that ends with the process that ran it."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return [setpriv, "--pdeathsig", "INT"] if setpriv else []
    if setpriv is None:
        _unavailable("PostgreSQL refuses to run as root, and setpriv is not installed")
    identity = ["--reuid=postgres", "--regid=postgres", "--init-groups"]
    return [setpriv, *identity, "--pdeathsig", "INT"]


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI no test may be skipped for that")
    pytest.skip(reason)

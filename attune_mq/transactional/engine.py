"""Database engines with durable commits and explicit transactions.

A message is acknowledged after its effect is committed. If the database then lost the commit, the
effect would be lost: the broker does not deliver the message again. The settings here rule that
out, and make a transaction begin where the code says so.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy.exc
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite

from attune_mq.errors import InvalidInput
from attune_mq.forking import after_fork

#: Primary result codes of SQLite (sqlite.org/rescode.html) that say nothing about the statement:
#: BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL.
_SQLITE_TRANSIENT = frozenset({5, 6, 7, 8, 9, 10, 13, 14, 15})

#: Classes and codes of PostgreSQL (its manual, appendix A) that say nothing about the statement:
#: connection, resources, operator intervention, system; serialization, deadlock, lock not
#: available, idle in transaction too long, read-only (a primary that became a standby).
_POSTGRESQL_TRANSIENT = ("08", "53", "57", "58", "40001", "40P01", "55P03", "25P03", "25006")

_POSTGRESQL_CONFLICTS = ("40001", "40P01")

_READ_ONLY = "attune_read_only"


def create_database_engine(
    url: str | URL, *, busy_timeout_ms: int = 5_000, pool_size: int = 10
) -> Engine:
    """An engine for SQLite (a file) or PostgreSQL (psycopg 3), set so that no commit is lost.

    ``url`` is SQLAlchemy's: ``sqlite:///relative.db``, ``sqlite:////absolute.db``,
    ``postgresql://user@host/name``. ``busy_timeout_ms`` is how long SQLite waits for another
    writer. ``pool_size`` connections are kept, as many again are opened when needed.

    SQLite: every transaction begins with ``BEGIN IMMEDIATE``, so one writer at a time and no
    deadlock between two that read first; WAL, so readers do not wait (:func:`reading`);
    ``synchronous=FULL``; foreign keys are enforced. The file is opened at the first use.

    Raises :class:`InvalidInput` for an invalid URL, another database, an in-memory SQLite database
    (each thread would have one of its own), a missing folder, a missing driver. No error quotes a
    password of the URL. A forked process opens connections of its own, and leaves the parent's.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite_engine(parsed, busy_timeout_ms, pool_size)
    else:
        engine = _postgresql_engine(parsed, pool_size)
    reference = weakref.ref(engine)

    def leave_to_parent() -> None:
        if (alive := reference()) is not None:
            alive.dispose(close=False)

    after_fork(leave_to_parent)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read-only transaction on one consistent state; on SQLite it waits for no writer."""
    options: dict[str, Any] = {_READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        options |= {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
    with engine.connect() as connection, connection.execution_options(**options).begin():
        yield connection


def insert_into(tx: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An ``INSERT`` that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``.

    SQLite and PostgreSQL spell both alike, SQLAlchemy has a class for each.
    """
    return sqlite.insert(table) if tx.dialect.name == "sqlite" else postgresql.insert(table)


def is_transient(error: BaseException) -> bool:
    """Whether the database is locked, full or unreachable: wait and retry the same transaction.

    False for what a retry cannot fix (a constraint, a value that the database refuses, a missing
    table) and for errors that are not the database's. Every connection that PostgreSQL refuses
    counts as unreachable, a wrong password too: a running service had the right one once.
    """
    if isinstance(error, sqlalchemy.exc.TimeoutError):  # every connection of the pool is in use
        return True
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        extended_code = getattr(error.orig, "sqlite_errorcode", 0)
        return extended_code & 0xFF in _SQLITE_TRANSIENT
    code: str | None = getattr(error.orig, "sqlstate", None)
    if code is None:  # the server said nothing: there was no connection to say it on
        return isinstance(error, (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError))
    return code.startswith(_POSTGRESQL_TRANSIENT)


def is_conflict(error: BaseException) -> bool:
    """Whether it is a deadlock or a serialization failure of PostgreSQL: retry at once."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _POSTGRESQL_CONFLICTS


def describe(error: BaseException) -> str:
    """The first line of the driver's message, for a log: without statement and values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0]


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # "from None": SQLAlchemy's error quotes the URL, and with it the password.
        raise InvalidInput(
            "the database URL cannot be read: expected one such as sqlite:///attune.db "
            "or postgresql://user@host/database"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("postgresql+psycopg", "sqlite", "sqlite+pysqlite"):
        raise InvalidInput(
            f"database URL: expected sqlite or postgresql (with psycopg), got {parsed.drivername!r}"
        )
    return parsed


def _sqlite_engine(url: URL, busy_timeout_ms: int, pool_size: int) -> Engine:
    _require_file(url)
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        hide_parameters=True,  # parameters are payloads, and errors end up in logs
        connect_args={"timeout": busy_timeout_ms / 1000, "factory": _TurnTakingConnection},
    )
    turn = threading.Lock()

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(_READ_ONLY):
            connection.exec_driver_sql("BEGIN DEFERRED")
        else:
            _begin_immediate(connection, turn, busy_timeout_ms / 1000)

    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", begin)
    return engine


def _require_file(url: URL) -> None:
    name = url.database or ""
    if name in ("", ":memory:") or "mode=memory" in name or url.query.get("mode") == "memory":
        raise InvalidInput(
            "database URL: an SQLite database in memory is another one in each thread; "
            "give a file, such as sqlite:///attune.db"
        )
    if not name.startswith("file:") and not Path(name).parent.is_dir():
        raise InvalidInput(f"database URL: the folder of {name!r} does not exist; make it first")


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # Otherwise the driver begins the transaction at the first INSERT, after what was read for it.
    connection.isolation_level = None
    # With NORMAL a WAL database may lose its last commits when the power fails
    # (sqlite.org/pragma.html#pragma_synchronous), after the message was acknowledged.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


class _TurnTakingConnection(sqlite3.Connection):
    """The threads of one process queue for the write lock.

    SQLite itself polls with a growing delay: with eight threads one transaction in a hundred waited
    for most of a second. Between processes it still does.
    """

    _turn: threading.Lock | None = None

    def take_turn(self, turn: threading.Lock, timeout_s: float) -> None:
        # After a timeout SQLite decides: "database is locked", or success after all.
        self._turn = turn if turn.acquire(timeout=timeout_s) else None

    def end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()

    def commit(self) -> None:
        try:
            super().commit()
        finally:
            self.end_turn()

    def rollback(self) -> None:
        try:
            super().rollback()
        finally:
            self.end_turn()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.end_turn()


def _begin_immediate(connection: Connection, turn: threading.Lock, timeout_s: float) -> None:
    """Takes the write lock first: a transaction that reads and then writes would fail at once,
    whatever the busy timeout, where another has written in between."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, _TurnTakingConnection)
    driver.take_turn(turn, timeout_s)
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except BaseException:
        driver.end_turn()
        raise


def _postgresql_engine(url: URL, pool_size: int) -> Engine:
    # A half-open connection is noticed in this time, not in hours.
    timeouts = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
    try:
        return create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,  # a restart of the server costs a reconnection, not a failure
            hide_parameters=True,
            connect_args={key: timeouts[key] for key in timeouts.keys() - url.query.keys()},
        )
    except ModuleNotFoundError as missing:
        raise InvalidInput(
            "PostgreSQL needs psycopg: pip install 'attune-mq[postgresql]'"
        ) from missing

"""Whether who claimed rows of an outbox is still there, known before the lease ends.

A relay holds a lock that dies with its process. On PostgreSQL that is an advisory lock of a session
that is kept for it (one more connection; its key is in ``pg_locks``), on SQLite a lock (``flock``)
of a file beside the database, ``<database>-relay-<id>``. Whose lock is free is gone.

What it cannot tell, the lease bounds: a host that lost its power or its network keeps its session
until PostgreSQL notices (``tcp_keepalives_idle``), a child that a process has forked keeps the lock
of the file, a relay that hangs keeps either, a pooler that shares sessions between clients says
nothing of them, and where the file cannot be made there is none. The other way round, a relay whose
session has ended counts as gone until its next look: what it is publishing may be published
by another as well, with the same ids, as after a lease that ended.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
import secrets
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from attune_mq.transactional.engine import reading

logger = logging.getLogger(__name__)

_ID = re.compile(r"/([0-9a-f]{16})#\d+\Z")
_KEYS = text(
    "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks"
    " WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Presence(Protocol):
    """The lock of one relay, and the look at those of others. For one thread at a time."""

    def show(self) -> None:
        """Take the lock, unless it is held. Before the first claim, and again now and then."""
        ...

    def absent(self, tx: Connection, ids: set[str]) -> set[str]:
        """Those of ``ids`` that are known to be gone."""
        ...

    def end(self) -> None:
        """Let go of the lock, as the end of the process would: what is claimed is for others."""
        ...

    def leave_to_parent(self) -> None:
        """In a fork: the lock goes when the parent goes, and not before."""
        ...


class Identity:
    """Of a relay in one process. ``name``: for people; the host and the process unless given."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self.renew()

    def renew(self) -> None:
        """In a fork: two relays of one identity would settle each other's claims."""
        self.id = secrets.token_hex(8)  # 64 bits, as many as the key of an advisory lock has
        self._relay = self._name or f"{socket.gethostname()}:{os.getpid()}"
        self._numbers = itertools.count(1)

    def claim_name(self) -> str:
        """For each claim, not for each relay: what a lease that ended left behind is then never
        taken for what is held now."""
        return f"{self._relay}/{self.id}#{next(self._numbers)}"


def gone(presence: Presence, tx: Connection, claims: Collection[str]) -> set[str]:
    """The ``claims`` whose relay is known to be gone; not those that an older version named."""
    ids = {claim: found[1] for claim in claims if (found := _ID.search(claim))}
    absent = presence.absent(tx, set(ids.values()))
    return {claim for claim, relay_id in ids.items() if relay_id in absent}


def presence_on(engine: Engine, relay_id: str) -> Presence:
    if engine.dialect.name == "postgresql":
        return AdvisoryLock(engine, relay_id)
    return LockFile(engine, relay_id)


class AdvisoryLock:
    """PostgreSQL's."""

    def __init__(self, engine: Engine, relay_id: str) -> None:
        self._engine = engine
        self._id = relay_id
        self._session: Connection | None = None
        self._is_locked = False

    def show(self) -> None:
        """Raises SQLAlchemy's error where the database is away.

        It does not wait for the lock. A session of which only this side was cut holds it until the
        server notices, and so long this relay counts as there; a later call takes it."""
        if self._session is not None and not _answers(self._session):
            self.end()
        if self._session is None:
            session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            session.detach()  # no connection of the pool, which others wait for
            self._session = session
        if not self._is_locked:
            lock = text("SELECT pg_try_advisory_lock(:key)")
            self._is_locked = self._session.execute(lock, {"key": _key(self._id)}).scalar_one()

    def absent(self, tx: Connection, ids: set[str]) -> set[str]:
        if not ids - {self._id}:
            return set()
        keys = set(tx.execute(_KEYS).scalars())
        return {one for one in ids if one != self._id and _key(one) not in keys}

    def end(self) -> None:
        session, self._session, self._is_locked = self._session, None, False
        if session is not None:
            with suppress(SQLAlchemyError):
                session.close()

    def leave_to_parent(self) -> None:
        if self._session is not None:
            _left_to_parents.append(self._session)  # its end would be said over the parent's socket
            self._session, self._is_locked = None, False


_left_to_parents: list[Connection] = []


def _answers(session: Connection) -> bool:
    try:
        session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _key(relay_id: str) -> int:
    return int.from_bytes(bytes.fromhex(relay_id), signed=True)


class LockFile:
    """For SQLite, whose processes share a host and a folder."""

    def __init__(self, engine: Engine, relay_id: str) -> None:
        self._engine = engine
        self._id = relay_id
        self._start: str | None = None
        self._descriptor: int | None = None

    def show(self) -> None:
        if self._start is not None:
            return
        with reading(self._engine) as tx:
            self._start = f"{_file_of(tx)}-relay-"
        try:
            self._descriptor = _make_locked(Path(self._start + self._id))
        except OSError as error:
            logger.warning("Outbox relay cannot lock a file, its lease has to do: %s", error)

    def absent(self, tx: Connection, ids: set[str]) -> set[str]:
        start = Path(f"{_file_of(tx)}-relay-")
        found = set()
        for file in [one for one in start.parent.iterdir() if one.name.startswith(start.name)]:
            relay_id = file.name.removeprefix(start.name)
            with _taken(file) as is_free:
                if is_free and relay_id in ids:
                    found.add(relay_id)
                elif is_free:  # it left a file and no claim
                    with suppress(OSError):
                        file.unlink()
        return found

    def end(self) -> None:
        """The file stays, to say so; the next look of another deletes it."""
        descriptor, self._descriptor, self._start = self._descriptor, None, None
        if descriptor is not None:
            os.close(descriptor)

    def leave_to_parent(self) -> None:
        self.end()  # of a copy; the parent's holds the lock


def _file_of(tx: Connection) -> str:
    databases = tx.exec_driver_sql("PRAGMA database_list").all()
    return next(str(file) for _, name, file in databases if name == "main")


def _make_locked(file: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        os.close(descriptor)  # somebody took it for a file that was left, and deleted it


@contextmanager
def _taken(file: Path) -> Iterator[bool]:
    """Whether nobody has locked it, as far as can be told; then it is locked meanwhile."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:  # deleted by now, or another user's
        yield False
        return
    try:
        yield _is_locked_now(descriptor)
    finally:
        os.close(descriptor)


def _is_locked_now(descriptor: int) -> bool:
    """``False`` also where the file system has no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

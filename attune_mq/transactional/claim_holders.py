"""Whether the relay that claimed rows of an outbox still runs, known before its lease ends.

A relay holds a lock that is released when its process dies: on PostgreSQL an advisory lock of a
session of its own (one more connection; its key is in ``pg_locks``), on SQLite a lock (``flock``)
of a file beside the database, ``<database>-relay-<id>``. A relay whose lock is free is gone.

Where the lock outlives the relay, its claims end with the lease: a host that lost its power or its
network keeps its session until PostgreSQL notices (``tcp_keepalives_idle``), a forked child keeps
the lock of the file, a relay that hangs keeps either; a pooler that shares sessions between clients
hides them, and there may be no permission to make the file. The other way round, a relay whose
session has ended counts as gone until its next look: another may publish the same messages as
well, with the same ids, as after a lease that ended.
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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

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


class Identity:
    """Of a relay in one process. ``name``: host and process id unless given."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self.renew()

    def renew(self) -> None:
        """In a fork: two relays of one identity would settle each other's claims."""
        self.id = secrets.token_hex(8)  # 64 bits, as many as the key of an advisory lock has
        self._relay = self._name or f"{socket.gethostname()}:{os.getpid()}"
        self._numbers = itertools.count(1)

    def claim_name(self) -> str:
        """Of one claim, so that a claim whose lease ended is not taken for a later one."""
        return f"{self._relay}/{self.id}#{next(self._numbers)}"


def gone(lock: RelayLock, tx: Connection, claims: Collection[str]) -> set[str]:
    """The ``claims`` whose relay is known to be gone; not those named by older versions."""
    ids = {claim: found[1] for claim in claims if (found := _ID.search(claim))}
    absent = lock.absent(tx, set(ids.values()))
    return {claim for claim, relay_id in ids.items() if relay_id in absent}


class AdvisoryLock:
    """The lock of one relay, and the view of those of others. For one thread at a time."""

    def __init__(self, engine: Engine, relay_id: str) -> None:
        self._engine = engine
        self._id = relay_id
        self._session: Connection | None = None
        self._is_locked = False

    def take(self) -> None:
        """Before the first claim, and now and then again; nothing to do while it is held. Raises
        SQLAlchemy's error where the database is unavailable.

        It does not wait for the lock: a half-open session holds it until the server notices, and
        until then this relay counts as running; a later call takes it."""
        if self._session is not None:
            try:
                self._session.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self.release()
        if self._session is None:
            session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            session.detach()  # it leaves the pool
            self._session = session
        if not self._is_locked:
            lock = text("SELECT pg_try_advisory_lock(:key)")
            self._is_locked = self._session.execute(lock, {"key": _key(self._id)}).scalar_one()

    def absent(self, tx: Connection, ids: set[str]) -> set[str]:
        """Those of ``ids`` that are known to be gone."""
        if not ids - {self._id}:
            return set()
        keys = set(tx.execute(_KEYS).scalars())
        return {one for one in ids if one != self._id and _key(one) not in keys}

    def release(self) -> None:
        """As the end of the process does: other relays release its claims."""
        session, self._session, self._is_locked = self._session, None, False
        if session is not None:
            with suppress(SQLAlchemyError):
                session.close()

    def leave_to_parent(self) -> None:
        """In a fork: the parent goes on to hold the lock."""
        if self._session is not None:
            # Kept: its destructor would write to the parent's socket.
            _left_to_parents.append(self._session)
            self._session, self._is_locked = None, False


_left_to_parents: list[Connection] = []


def _key(relay_id: str) -> int:
    return int.from_bytes(bytes.fromhex(relay_id), signed=True)


class LockFile:
    """The same for SQLite, whose processes share a file system."""

    def __init__(self, engine: Engine, relay_id: str) -> None:
        self._engine = engine
        self._id = relay_id
        self._was_taken = False
        self._descriptor: int | None = None

    def take(self) -> None:
        if self._was_taken:
            return
        with reading(self._engine) as tx:
            start = _start_of_names(tx)
        self._was_taken = True
        try:
            self._descriptor = _make_locked(start.with_name(start.name + self._id))
        except OSError as error:
            logger.warning("Outbox relay cannot lock a file, its claims end by lease: %s", error)

    def absent(self, tx: Connection, ids: set[str]) -> set[str]:
        start = _start_of_names(tx)
        found = set()
        for file in [one for one in start.parent.iterdir() if one.name.startswith(start.name)]:
            relay_id = file.name.removeprefix(start.name)
            with _taken(file) as is_free:
                if is_free and relay_id in ids:
                    found.add(relay_id)
                elif is_free:
                    with suppress(OSError):
                        file.unlink()
        return found

    def release(self) -> None:
        """The file stays, unlocked; another relay deletes it once it has no claims."""
        descriptor, self._descriptor, self._was_taken = self._descriptor, None, False
        if descriptor is not None:
            os.close(descriptor)

    def leave_to_parent(self) -> None:
        self.release()  # closes a copy of the descriptor: the parent's holds the lock


RelayLock = AdvisoryLock | LockFile


def lock_on(engine: Engine, relay_id: str) -> RelayLock:
    kind = AdvisoryLock if engine.dialect.name == "postgresql" else LockFile
    return kind(engine, relay_id)


def _start_of_names(tx: Connection) -> Path:
    databases = tx.exec_driver_sql("PRAGMA database_list").all()
    return Path(next(f"{file}-relay-" for _, name, file in databases if name == "main"))


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
        os.close(descriptor)  # another relay took it for a file that was left, and deleted it


@contextmanager
def _taken(file: Path) -> Iterator[bool]:
    """Whether it is known to be unlocked; then it is locked meanwhile."""
    with ExitStack() as stack:
        is_free = False
        with suppress(OSError):  # deleted, another user's, locked, or there are no such locks
            descriptor = os.open(file, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = True
        yield is_free

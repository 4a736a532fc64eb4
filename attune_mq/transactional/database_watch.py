"""A watchdog thread that checks whether the database accepts writes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from attune_mq.transactional.engine import create_database_engine, describe

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 0.5
GOOD_FOR_S = CHECK_EVERY_S + 1.0
"""Maximum age of a success: the interval of the checks, and as long as one may take."""
_BUSY_TIMEOUT_MS = 400
_LOCK_TIMEOUT_MS = 900


class DatabaseWatch:
    """Takes and releases, on a connection of its own, the locks that a write needs.

    SQLite: the write lock. PostgreSQL: the lock that an ``INSERT`` takes on each of ``tables``,
    which detects a locked table and a standby. Nothing is written. It needs the permission to
    insert into ``tables``.

    :meth:`worked` reports a commit of the service itself, which counts as a success: of many
    writers of one SQLite file the one that only checks may wait for long.
    """

    def __init__(self, engine: Engine, tables: Sequence[Table] = ()) -> None:
        self._engine = create_database_engine(
            engine.url, busy_timeout_ms=_BUSY_TIMEOUT_MS, pool_size=1
        )
        self._tables = tables
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-watch", daemon=True)
        self._worked_at_s = float("-inf")
        self._error = "no answer"

    @property
    def trouble(self) -> str | None:
        """The error, if the database accepted no write for :data:`GOOD_FOR_S` seconds."""
        is_good = time.monotonic() - self._worked_at_s <= GOOD_FOR_S
        return None if is_good else self._error

    def worked(self) -> None:
        """From any thread: a transaction was committed just now."""
        self._worked_at_s = time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 1.0) -> None:
        """Does not wait for a database that does not answer."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(min(deadline_s, 1.0))
        if not self._thread.is_alive():
            self._engine.dispose()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._engine.begin() as tx:
                    self._take_locks(tx)
            except SQLAlchemyError as error:
                self._error = describe(error)
            except Exception as error:  # a defect, which must not look like health
                logger.exception("Database check failed unexpectedly")
                self._error = f"unexpected {type(error).__name__}"
            else:
                self._error = "no answer"
                self.worked()
            self._stopping.wait(CHECK_EVERY_S)

    def _take_locks(self, tx: Connection) -> None:
        """On SQLite the transaction began with it."""
        if tx.dialect.name != "postgresql":
            return
        tx.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
        quote = tx.dialect.identifier_preparer.format_table
        names = ", ".join(quote(table) for table in self._tables)
        tx.exec_driver_sql(f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE" if names else "SELECT 1")

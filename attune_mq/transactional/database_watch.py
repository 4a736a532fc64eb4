"""Whether the database takes transactions now: asked all the time, by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from attune_mq.transactional.engine import create_database_engine, describe

logger = logging.getLogger(__name__)

ASK_EVERY_S = 0.5
ANSWER_WITHIN_S = 1.0
GOOD_FOR_S = ASK_EVERY_S + ANSWER_WITHIN_S
"""How long an answer is good: until the next question, and as long as its answer may take."""
_BUSY_TIMEOUT_MS = 400
_LOCK_TIMEOUT_MS = 900


class DatabaseWatch:
    """Takes, on a connection of its own, what a transaction that writes would need, and lets go.

    SQLite: the write lock. PostgreSQL: the lock that an ``INSERT`` takes on each of ``tables``,
    so that a table that somebody else locked, and a standby, are seen as what they are. Nothing is
    written. It needs the right to insert into ``tables``.

    :meth:`worked` says that the service's own transaction was committed, which is an answer too:
    of many writers of one SQLite file the one that only asks may wait for long.
    """

    def __init__(self, engine: Engine, tables: Sequence[Table] = ()) -> None:
        self._engine = create_database_engine(
            engine.url, busy_timeout_ms=_BUSY_TIMEOUT_MS, pool_size=1
        )
        self._tables = tables
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-watch", daemon=True)
        self._answered_at_s: float | None = None
        self._said: str | None = None

    @property
    def trouble(self) -> str | None:
        """What is wrong, if the database took no transaction for :data:`GOOD_FOR_S` seconds."""
        answered_at_s = self._answered_at_s
        if answered_at_s is not None and time.monotonic() - answered_at_s <= GOOD_FOR_S:
            return None
        return self._said or "it does not answer"

    def worked(self) -> None:
        """From any thread: a transaction was committed just now."""
        self._answered_at_s = time.monotonic()

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
                self._said = describe(error)
            except Exception:  # a defect, which must not look like health
                logger.exception("The database cannot be watched")
                self._said = "it cannot be asked"
            else:
                self._said = None
                self.worked()
            self._stopping.wait(ASK_EVERY_S)

    def _take_locks(self, tx: Connection) -> None:
        """On SQLite the transaction began with it."""
        if tx.dialect.name != "postgresql":
            return
        tx.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
        quote = tx.dialect.identifier_preparer.format_table
        names = ", ".join(quote(table) for table in self._tables)
        tx.exec_driver_sql(f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE" if names else "SELECT 1")

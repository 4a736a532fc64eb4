"""Bringing the database to the schema that this version of the executor uses.

The revisions beside this file travel in the package. A developer makes the next one with
``python -m attune_executor.migrations URL "what changes"``, against a database at the newest one.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from attune_mq import InvalidInput
from attune_mq.transactional import DatabaseUnavailable, describe, is_transient

logger = logging.getLogger(__name__)

#: Any number, as long as no other program takes this advisory lock on the same database.
_LOCK_KEY = 0x6174_7475_6E65
_PAUSE_S = 0.2

# Alembic keeps the migration that runs in module-wide variables.
_one_at_a_time = threading.Lock()


def migrate(engine: Engine, *, timeout_s: float = 60.0) -> None:
    """Create the tables, or bring them up to date; nothing to do is fine, and quick.

    Any number of executors may do this at the same moment: one does it, the others wait. Everything
    happens in one transaction, so a migration that is killed has not begun.

    Raises :class:`DatabaseUnavailable` when the database is still locked or away after
    ``timeout_s``; :class:`InvalidInput` when it refuses (a missing privilege), is no database, or
    was migrated by a newer executor.
    """
    deadline = time.monotonic() + timeout_s
    waits = False
    while True:
        try:
            with _one_at_a_time, engine.begin() as tx:
                upgrade(tx, timeout_s=timeout_s)
            return
        except DBAPIError as error:
            _give_up_unless_transient(error, timeout_s, deadline)
            if not waits:
                logger.warning("Migration waits, the database is not there: %s", describe(error))
            waits = True
        time.sleep(_PAUSE_S)


def configuration(tx: Connection) -> Config:
    """Alembic's configuration for the revisions of this package, on the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = tx
    return config


def upgrade(tx: Connection, *, timeout_s: float) -> None:
    """:func:`migrate` within the caller's transaction; who else migrates waits until it ends."""
    if tx.dialect.name == "postgresql":  # on SQLite the transaction is the lock
        tx.execute(text(f"SET LOCAL lock_timeout = {int(timeout_s * 1000)}"))
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    try:
        command.upgrade(configuration(tx), "head")
    except CommandError as error:
        raise InvalidInput(
            f"the database was migrated by a newer attune_executor; install that one ({error})"
        ) from error


def _give_up_unless_transient(error: DBAPIError, timeout_s: float, deadline: float) -> None:
    if not is_transient(error):
        raise InvalidInput(f"the database refuses the migration: {describe(error)}") from error
    if time.monotonic() >= deadline:
        raise DatabaseUnavailable(
            f"the database is locked or away, after {timeout_s:g} s: {describe(error)}"
        ) from error

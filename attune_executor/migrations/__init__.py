"""Migrates the database to the schema of this version of the executor.

A developer writes the next revision with ``python -m attune_executor.migrations URL "text"``,
against a database at the newest one.
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

#: Of an advisory lock that no other program takes on the same database.
_LOCK_KEY = 0x6174_7475_6E65
_PAUSE_S = 0.2

# Alembic keeps the migration that runs in module-wide variables.
_one_at_a_time = threading.Lock()


def migrate(engine: Engine, *, timeout_s: float = 60.0) -> None:
    """Creates the tables, or migrates them; idempotent.

    Of several executors at the same time one migrates and the others wait. All revisions are one
    transaction, so a migration that is killed has no effect.

    Raises :class:`DatabaseUnavailable` when the database is still locked or unreachable after
    ``timeout_s``; :class:`InvalidInput` when it refuses (a missing privilege), is no database, or
    was migrated by a newer executor.
    """
    deadline = time.monotonic() + timeout_s
    has_logged = False
    while True:
        try:
            with _one_at_a_time, engine.begin() as tx:
                upgrade(tx, timeout_s=timeout_s)
            return
        except DBAPIError as error:
            reason = describe(error)
            if not is_transient(error):
                raise InvalidInput(f"the database refuses the migration: {reason}") from error
            if time.monotonic() >= deadline:
                text = f"the database is locked or unreachable, after {timeout_s:g} s: {reason}"
                raise DatabaseUnavailable(text) from error
            if not has_logged:
                logger.warning("Database unavailable, retrying migration: %s", reason)
            has_logged = True
        time.sleep(_PAUSE_S)


def configuration(tx: Connection) -> Config:
    """Alembic's configuration for the revisions of this package, on the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = tx
    return config


def upgrade(tx: Connection, *, timeout_s: float) -> None:
    """:func:`migrate` within the caller's transaction; others wait until it ends."""
    if tx.dialect.name == "postgresql":  # on SQLite the transaction is the lock
        tx.execute(text(f"SET LOCAL lock_timeout = {int(timeout_s * 1000)}"))
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    try:
        command.upgrade(configuration(tx), "head")
    except CommandError as error:
        raise InvalidInput(
            f"the database was migrated by a newer attune_executor; install that one ({error})"
        ) from error

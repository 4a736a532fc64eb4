"""Statements that are built once.

SQLAlchemy takes several times as long to build a statement as to execute it: a message of an
executor spent most of its time there. One that is ready, with a parameter for each value that
changes, is looked up in SQLAlchemy's cache of compiled statements and executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable


class Prepared:
    """A statement that ``build`` makes, once for each kind of database that it is executed on.

    ::

        move = Prepared(
            lambda tx: update(things).where(things.c.id == bindparam("thing_id"))
        )
        move.execute(tx, thing_id=7, state="gone")

    What changes is a parameter: a ``bindparam``, whose name is that of no column, or, for an
    ``INSERT``, a column. Give the same columns each time: other ones are another statement.
    """

    def __init__(self, build: Callable[[Connection], Executable]) -> None:
        self._build = build
        self._built: dict[str, Executable] = {}

    def execute(self, tx: Connection, **values: Any) -> CursorResult[Any]:
        return tx.execute(self._on(tx), values)

    def execute_many(self, tx: Connection, values: Sequence[Mapping[str, Any]]) -> None:
        """Once for each of ``values``; not at all where there are none."""
        if values:
            tx.execute(self._on(tx), values)

    def _on(self, tx: Connection) -> Executable:
        database = tx.dialect.name
        statement = self._built.get(database)
        if statement is None:
            statement = self._built[database] = self._build(tx)
        return statement

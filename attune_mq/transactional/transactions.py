"""Running transactions: again after a conflict, several in one commit, statements built once."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable
from sqlalchemy.exc import SQLAlchemyError

from attune_mq.errors import DatabaseUnavailable
from attune_mq.message.synchronous import check_ran
from attune_mq.transactional.engine import describe, is_conflict, is_transient

T = TypeVar("T")
Work = Callable[[Connection], None]

_ATTEMPTS = 5
_MAX_PAUSE_S = 0.1
_MAX_GROUP = 100


def run_in_transaction_with_retry(transaction: Callable[[], T]) -> T:
    """Calls ``transaction``, which begins and commits one, and returns its result.

    After a conflict (deadlock, serialization failure) it is called again, five times at most.
    Raises :class:`~attune_mq.errors.DatabaseUnavailable` where the database is locked, full or
    unreachable: raised by a handler, it pauses the consumer instead of counting an attempt for each
    message. Other exceptions propagate; :class:`~attune_mq.errors.NotSynchronous` where
    ``transaction`` returns a coroutine or the like.
    """
    for _ in range(_ATTEMPTS):
        try:
            done = transaction()
            check_ran(done, "the transaction")
            return done
        except SQLAlchemyError as error:
            if not is_transient(error):
                raise
            if not is_conflict(error):
                raise DatabaseUnavailable(describe(error)) from error
            conflict = error
        time.sleep(random.uniform(0.0, _MAX_PAUSE_S))
    raise DatabaseUnavailable(describe(conflict)) from conflict


class GroupCommit:
    """Group commit: work of concurrent threads shares transactions.

    A database flushes its log for each commit, and SQLite has one writer at a time. So the thread
    whose turn it is also runs what the others have queued meanwhile; each caller returns once the
    common transaction is committed.

    If one work fails, the common transaction is rolled back and each is run again in a transaction
    of its own. So a work must be safe to call again after a rollback. It runs in its caller's
    context (:mod:`contextvars`), possibly on another thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()
        self._waiting: deque[_Queued] = deque()

    @property
    def waiting(self) -> int:
        """How many callers wait for their turn."""
        return len(self._waiting)

    def commit(self, work: Work) -> None:
        """Returns once ``work`` was called with a transaction, and that is committed.

        Raises what ``work`` raises, :class:`~attune_mq.errors.NotSynchronous` where it returns a
        coroutine or the like, and :class:`~attune_mq.errors.DatabaseUnavailable` as
        :func:`run_in_transaction_with_retry` does.
        """
        queued = _Queued(work)
        self._waiting.append(queued)
        with self._turn:
            while not queued.was_tried:
                self._commit_together(
                    [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_GROUP))]
                )
        if queued.error is not None:
            raise queued.error
        if not queued.is_committed:
            run_in_transaction_with_retry(lambda: self._transaction([queued]))

    def _commit_together(self, group: list[_Queued]) -> None:
        """Marks each of the group: committed, failed, or (neither) to be run alone."""
        error: Exception | None = None
        is_committed = False
        try:
            run_in_transaction_with_retry(lambda: self._transaction(group))
            is_committed = True
        except DatabaseUnavailable as unavailable:
            error = unavailable
        except Exception as failure:
            error = failure if len(group) == 1 else None  # whose it is shows when each runs alone
        finally:
            for one in group:
                one.error, one.is_committed, one.was_tried = error, is_committed, True

    def _transaction(self, group: list[_Queued]) -> None:
        with self._engine.begin() as tx:
            for one in group:
                check_ran(one.context.run(one.work, tx), "the work")


@dataclass(slots=True, eq=False)
class _Queued:
    work: Work
    context: Context = field(default_factory=copy_context)
    was_tried: bool = False
    is_committed: bool = False
    error: Exception | None = None


class Prepared:
    """A statement that ``build`` makes once for each dialect, such as an upsert::

        add = Prepared(lambda tx: insert_into(tx, things).on_conflict_do_nothing())
        add.execute(tx, thing_id=7, state="new")

    SQLAlchemy takes several times as long to build a statement as to execute it. What changes is a
    parameter: a column of an ``INSERT``, or a ``bindparam`` with a name that no column has. Give
    the same parameters each time: other ones are another statement.
    """

    def __init__(self, build: Callable[[Connection], Executable]) -> None:
        self._build = build
        self._built: dict[str, Executable] = {}

    def execute(self, tx: Connection, **values: Any) -> CursorResult[Any]:
        dialect = tx.dialect.name
        if dialect not in self._built:
            self._built[dialect] = self._build(tx)
        return tx.execute(self._built[dialect], values)

"""Transactions that wait for each other are committed together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context

from sqlalchemy import Connection, Engine

from attune_mq.errors import DatabaseUnavailable
from attune_mq.message.synchronous import check_ran
from attune_mq.transactional.persisting import persist

Work = Callable[[Connection], None]

MOST = 100
"""Works in one transaction."""


class GroupCommit:
    """Does what several threads ask for, in as few transactions as they wait for.

    A database writes its log to the disk for each commit, and SQLite lets one transaction write at
    a time. So whoever has the turn takes along what others have asked for in the meantime, and all
    of them go on once that is committed: nothing is promised earlier than it would have been alone.

    If one of them fails, nothing of the common transaction stays, and each is done again in a
    transaction of its own, where it fails or succeeds by itself. So a work must be able to be
    called again after its transaction was rolled back. It runs in the context
    (:mod:`contextvars`) of who asked for it, maybe on another thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()
        self._waiting: deque[_Asked] = deque()

    @property
    def waiting(self) -> int:
        """How many have asked and wait for the turn."""
        return len(self._waiting)

    def commit(self, work: Work) -> None:
        """Returns once ``work`` was called with a transaction, and that is committed.

        Raises what ``work`` raises, :class:`~attune_mq.errors.NotSynchronous` where it returns a
        coroutine or the like, which did nothing, and
        :class:`~attune_mq.errors.DatabaseUnavailable` as :func:`persist` does.
        """
        asked = _Asked(work, copy_context())
        self._waiting.append(asked)
        with self._turn:
            while not asked.was_tried:
                self._commit_together(self._take_some())
        if asked.error is not None:
            raise asked.error
        if not asked.is_committed:
            persist(lambda: self._transaction([asked]))

    def _take_some(self) -> list[_Asked]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]

    def _commit_together(self, group: list[_Asked]) -> None:
        """Each of the group then knows: committed, an error, or to be done alone."""
        try:
            persist(lambda: self._transaction(group))
        except DatabaseUnavailable as error:
            for one in group:
                one.error = error
        except Exception as error:
            if len(group) == 1:  # otherwise it shows whose it is when each is done alone
                group[0].error = error
        else:
            for one in group:
                one.is_committed = True
        finally:
            for one in group:
                one.was_tried = True

    def _transaction(self, group: list[_Asked]) -> None:
        with self._engine.begin() as tx:
            for one in group:
                check_ran(one.context.run(one.work, tx), "the work")


class _Asked:
    __slots__ = ("context", "error", "is_committed", "was_tried", "work")

    def __init__(self, work: Work, context: Context) -> None:
        self.work = work
        self.context = context
        self.was_tried = False
        self.is_committed = False
        self.error: Exception | None = None

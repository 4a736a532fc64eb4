"""A transaction of a handler: done, or its message waits with its consumer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from attune_mq.errors import DatabaseUnavailable
from attune_mq.message.synchronous import check_ran
from attune_mq.transactional.engine import describe, is_conflict, is_transient

T = TypeVar("T")

CONFLICTS = 5
"""So often a transaction is done again that lost against others."""
_LONGEST_PAUSE_S = 0.1


def persist(transaction: Callable[[], T]) -> T:
    """Calls ``transaction``, which begins and commits one, and returns what it does.

    One that lost against another (a deadlock, a serialization failure) is done again at once.
    Raises :class:`~attune_mq.errors.DatabaseUnavailable` where the database is locked, full or
    away: raised by a handler, it lets the consumer pause instead of counting an attempt for each
    message. Whatever else ``transaction`` raises is raised, and
    :class:`~attune_mq.errors.NotSynchronous` where it returns a coroutine or the like.
    """
    for _ in range(CONFLICTS):
        try:
            done = transaction()
            check_ran(done, "the transaction")
            return done
        except SQLAlchemyError as error:
            if not is_transient(error):
                raise
            if not is_conflict(error):
                raise DatabaseUnavailable(describe(error)) from error
            lost = error
        time.sleep(random.uniform(0.0, _LONGEST_PAUSE_S))
    raise DatabaseUnavailable(describe(lost)) from lost

"""A database that is locked or away is waited for, not counted against the message."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from attune_mq.messaging.backoff import Backoff
from attune_mq.transactional.engine import describe, is_transient

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Patience:
    """Does a transaction again until the database takes it.

    Messages would otherwise fail three times in seconds and fill the dead letter queue, each for
    a reason that is not its own. While it waits, its consumer's prefetch bounds what it holds, and
    the broker keeps the rest; a consumer that is told to stop leaves the message to be delivered
    again.
    """

    def __init__(self) -> None:
        self._saying = threading.Lock()
        self.trouble: str | None = None
        """What the database said last, while somebody waits for it. For readiness."""

    def persist(self, transaction: Callable[[], T]) -> T:
        """Calls ``transaction``, which begins and commits one, until it does not fail by the
        database's fault; whatever else it raises is raised."""
        backoff = Backoff(first_s=0.1, longest_s=2.0)
        while True:
            try:
                done = transaction()
            except SQLAlchemyError as error:
                if not is_transient(error):
                    raise
                self._say(describe(error))
                time.sleep(backoff.next_s())
            else:
                self._say(None)
                return done

    def _say(self, trouble: str | None) -> None:
        with self._saying:
            if self.trouble is None and trouble is not None:
                logger.warning("Waiting for the database: %s", trouble)
            elif self.trouble is not None and trouble is None:
                logger.info("The database answers again")
            self.trouble = trouble

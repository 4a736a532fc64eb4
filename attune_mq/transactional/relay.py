"""The relay: publishes what the outbox holds, and deletes what the broker confirmed."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection, Engine

from attune_mq.errors import BrokerUnavailable, PublishError
from attune_mq.transactional.engine import describe, is_transient
from attune_mq.transactional.outbox import ClaimedMessage, Failure, OutboundMessage, Outbox
from attune_mq.transactional.schema import utc_now

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_FIRST_RETRY_S = 1.0
_LONGEST_ERROR = 1_000


class SupportsPublish(Protocol):
    """What the relay needs of a publisher."""

    def publish_envelopes(self, items: Sequence[OutboundMessage]) -> Sequence[PublishError | None]:
        """Publish all, with the confirms in flight together, and wait for them.

        One outcome for each message, in order; ``None``: the broker confirmed it. Raises
        :class:`BrokerUnavailable` when nothing could be published.
        """
        ...


@dataclass(frozen=True)
class Relayed:
    """What one turn of the relay did: how many messages were confirmed, how many were not."""

    confirmed: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Settlement:
    """What is known of a claimed batch and is still to be written to the database."""

    claimed_by: str
    confirmed: Sequence[int] = ()
    failures: Sequence[Failure] = ()
    untried: Sequence[int] = ()


class OutboxRelay:
    """A thread that publishes committed messages. Several processes may run one on one database.

    A turn claims up to ``batch_size`` due messages for ``lease_s``, publishes them with their
    confirms in flight together, and in one transaction, which claims the next ones as well,
    deletes the confirmed ones and postpones the failed ones: 1 s after the first failure, then
    twice as long each time, at most ``longest_retry_s``. There is no last attempt: a message stays
    until it is confirmed.

    No row is deleted that the broker did not confirm. What can happen is the opposite: when the
    process dies between the confirm and the delete, or takes longer than the lease, a message is
    published a second time, with the same ``message_id``; the inbox of its consumer drops it. So
    choose ``lease_s`` longer than the publisher's own deadline for a batch, and longer than the
    clocks of the machines differ.

    Order: messages leave in the order in which they were due, as long as one relay runs and none
    fails; beyond that no order is promised.

    When the database is locked or away, or the broker is, the relay says so once, waits (0.1 s,
    doubled up to 5 s), tries again, and says once that it goes on. :attr:`trouble` tells readiness.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        publisher: SupportsPublish,
        *,
        batch_size: int = 100,
        lease_s: float = 60.0,
        poll_interval_s: float = 1.0,
        longest_retry_s: float = 60.0,
        name: str | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._publisher = publisher
        self._batch_size = batch_size
        self._lease = timedelta(seconds=lease_s)
        self._poll_interval_s = poll_interval_s
        self._longest_retry_s = longest_retry_s
        self._name = name or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._now = now
        self._turn = threading.Lock()
        self._claims = 0
        self._unsettled: _Settlement | None = None
        self._watch = _Watch()
        self._changed = threading.Condition()
        self._woken = False
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox-relay", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why the relay waits, or ``None`` while it works."""
        return self._watch.trouble

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread. Once only: ``RuntimeError`` the second time."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something was committed, so that it need not wait for the next poll.

        Call it after the commit, from any thread; it returns at once.
        """
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self, deadline_s: float = 10.0) -> bool:
        """Publish what is due, as far as that goes without trouble, and end the thread.

        ``False`` when the thread has not ended after ``deadline_s``. What is not published then
        stays in the outbox, for another relay or the next start.
        """
        with self._changed:
            self._stop_at = time.monotonic() + deadline_s
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def run_once(self) -> Relayed:
        """One turn: claim a batch, publish it, settle it. Nothing to do: ``Relayed(0, 0)``.

        Raises SQLAlchemy's error when the database refuses, :class:`BrokerUnavailable` when
        nothing could be published. Either way nothing is lost, and what was confirmed is known and
        deleted by the next turn.
        """
        with self._turn:
            relayed = self._relay()
            self._settle()
            return relayed

    def _relay(self) -> Relayed:
        """A turn whose batch is settled in the transaction that claims the next, or by
        :meth:`_settle`: a transaction for each batch instead of two."""
        claimed_by, batch = self._settle_and_claim()
        if not batch:
            return Relayed()
        try:
            self._unsettled = self._judge(claimed_by, batch, self._publish(batch))
        except Exception:
            self._unsettled = _Settlement(claimed_by, untried=[row.row_id for row in batch])
            self._settle()
            raise
        return Relayed(len(self._unsettled.confirmed), len(self._unsettled.failures))

    def _settle_and_claim(self) -> tuple[str, list[ClaimedMessage]]:
        # A name for each claim, not for each relay: what a lease that ended left behind is then
        # never taken for what is held now.
        self._claims += 1
        claimed_by = f"{self._name}#{self._claims}"
        with self._engine.begin() as tx:
            self._write_known(tx)
            batch = self._outbox.claim(
                tx, claimed_by=claimed_by, limit=self._batch_size, lease=self._lease
            )
        self._unsettled = None
        return claimed_by, batch

    def _publish(self, batch: Sequence[ClaimedMessage]) -> Sequence[Exception | None]:
        try:
            return self._publisher.publish_envelopes([row.message for row in batch])
        except BrokerUnavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [error]
        # One message makes the publisher stumble: find out which, or it holds up all the others.
        # What had been published before it stumbled goes out twice, under the same ids.
        return [outcome for row in batch for outcome in self._publish([row])]

    def _judge(
        self,
        claimed_by: str,
        batch: Sequence[ClaimedMessage],
        outcomes: Sequence[Exception | None],
    ) -> _Settlement:
        pairs = list(zip(batch, outcomes, strict=True))
        _log_failures(pairs)
        return _Settlement(
            claimed_by,
            confirmed=[row.row_id for row, error in pairs if error is None],
            failures=[self._failure(row, error) for row, error in pairs if error is not None],
        )

    def _failure(self, row: ClaimedMessage, error: Exception) -> Failure:
        pause_s = min(self._longest_retry_s, _FIRST_RETRY_S * 2 ** min(row.attempts, 30))
        text = f"{type(error).__name__}: {error}"
        return Failure(row.row_id, text[:_LONGEST_ERROR], self._now() + timedelta(seconds=pause_s))

    def _settle(self) -> None:
        """Write what is known of the last batch; it stays known until that is committed."""
        if self._unsettled is None:
            return
        with self._engine.begin() as tx:
            self._write_known(tx)
        self._unsettled = None

    def _write_known(self, tx: Connection) -> None:
        if (known := self._unsettled) is None:
            return
        self._outbox.delete_confirmed(tx, known.confirmed)
        self._outbox.postpone_failed(tx, known.failures, claimed_by=known.claimed_by)
        self._outbox.release(tx, known.untried, claimed_by=known.claimed_by)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stops_within(pause_s):
            pause_s = self._take(self._next_turn)
        while self._take(self.run_once) == 0 and time.monotonic() < (self._stop_at or 0):
            pass

    def _next_turn(self) -> Relayed:
        """Leaves a batch to be settled by the turn after it, which then comes at once."""
        with self._turn:
            relayed = self._relay()
            if not relayed.confirmed:
                self._settle()
            return relayed

    def _take(self, turn: Callable[[], Relayed]) -> float:
        """One turn, and how long to pause after it, in seconds."""
        try:
            relayed = turn()
        except Exception as error:
            return self._watch.failed(error)
        self._watch.works()
        # Another batch at once, unless it is likely to fail like this one.
        return 0.0 if relayed.confirmed else self._poll_interval_s

    def _stops_within(self, pause_s: float) -> bool:
        """Sleep until the pause is over, or the relay is woken or stopped."""
        # A commit does not cut a pause short that is there because of trouble.
        wakeable = self._watch.trouble is None
        with self._changed:
            self._changed.wait_for(
                lambda: self._stop_at is not None or (wakeable and self._woken), pause_s
            )
            self._woken = False
            return self._stop_at is not None


class _Watch:
    """Notices when the relay's state changes, logs that once, and knows how long to pause."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._failures = 0

    def works(self) -> None:
        if self.trouble is not None:
            logger.info("Outbox relay goes on after: %s", self.trouble)
        self.trouble = None
        self._failures = 0

    def failed(self, error: Exception) -> float:
        if is_transient(error):
            return self._waits("the database is locked or away", describe(error))
        if isinstance(error, BrokerUnavailable):
            return self._waits("the broker is not available", describe(error))
        return self._waits(f"unexpected {type(error).__name__}", describe(error), error)

    def _waits(self, trouble: str, detail: str, defect: Exception | None = None) -> float:
        if trouble != self.trouble:
            level = logging.WARNING if defect is None else logging.ERROR
            logger.log(level, "Outbox relay waits, %s: %s", trouble, detail, exc_info=defect)
        self.trouble = trouble
        self._failures += 1
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 30))


def _log_failures(pairs: Sequence[tuple[ClaimedMessage, Exception | None]]) -> None:
    """One line for a batch, and only where a message fails for the first time."""
    fresh = [(row, error) for row, error in pairs if error is not None and row.attempts == 0]
    if not fresh:
        return
    row, error = fresh[0]
    logger.warning(
        "Outbox messages not confirmed: %d of %d; the first is %s (%s), %s: %s",
        len(fresh),
        len(pairs),
        row.message.message_id,
        row.message.message_type,
        type(error).__name__,
        error,
        exc_info=None if isinstance(error, PublishError) else error,
    )

"""One batch of an outbox after the other: claim it, publish it, settle it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Protocol

from sqlalchemy import Connection, Engine

from attune_mq.errors import BrokerUnavailable, PublishError
from attune_mq.message.masking import in_a_line
from attune_mq.transactional.outbox import ClaimedMessage, Failure, OutboundMessage, Outbox

logger = logging.getLogger(__name__)

_FIRST_RETRY = timedelta(seconds=1)
_MAX_ERROR_LENGTH = 1_000
_MAX_DESTINATIONS = 100


class SupportsPublish(Protocol):
    """What the relay needs of a publisher."""

    def publish_envelopes(self, items: Sequence[OutboundMessage]) -> Sequence[PublishError | None]:
        """Publishes all, with the confirms in flight together, and waits for them.

        One outcome for each message, in order; ``None``: the broker confirmed it. Raises
        :class:`BrokerUnavailable` when nothing could be published. Called from two threads.
        """
        ...


@dataclass(frozen=True)
class Relayed:
    """The result of one turn of the relay: how many messages were confirmed, how many were not."""

    confirmed: int = 0
    failed: int = 0

    def __add__(self, other: Relayed) -> Relayed:
        return Relayed(self.confirmed + other.confirmed, self.failed + other.failed)


class FailingDestinations:
    """Destinations of which the last batch with messages for them got none confirmed, the one
    tried last at the end. Thread-safe. Of more than :data:`_MAX_DESTINATIONS` the latest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, None] = {}

    def known(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._known)

    def learn(self, pairs: Sequence[tuple[ClaimedMessage, Exception | None]]) -> None:
        confirmed = {row.destination for row, error in pairs if error is None}
        with self._lock:
            for row, _ in pairs:
                self._known.pop(row.destination, None)
                if row.destination not in confirmed:
                    self._known[row.destination] = None
            for oldest in list(self._known)[:-_MAX_DESTINATIONS]:
                del self._known[oldest]


Claim = Callable[..., list[ClaimedMessage]]
""":meth:`Outbox.claim` for a transaction, a holder and a lease."""


def claim_others(claim: Claim, limit: int, failing: Sequence[str]) -> list[ClaimedMessage]:
    """Messages to all destinations but those that fail."""
    return claim(limit=limit, to="others" if failing else "any", destinations=failing)


def claim_of_each(claim: Claim, limit: int, failing: Sequence[str]) -> list[ClaimedMessage]:
    """The same number for each destination that fails, so that one which accepts messages again is
    found however many wait for the others; then as many as there is room for."""
    batch: list[ClaimedMessage] = []
    have_more = list(failing)
    for most in (max(1, limit // len(failing)), limit):
        asked, have_more = have_more, []
        for one in asked:
            if share := min(most, limit - len(batch)):
                claimed = claim(limit=share, to="these", destinations=[one])
                batch += claimed
                have_more += [one] if len(claimed) == share else []
    return sorted(batch, key=lambda row: row.row_id)


@dataclass(frozen=True)
class _Settlement:
    """The outcome of a claimed batch, still to be written to the database."""

    claimed_by: str
    confirmed: Sequence[int] = ()
    failures: Sequence[Failure] = ()
    untried: Sequence[int] = ()


@dataclass(frozen=True)
class Terms:
    """How an outbox is relayed; see :class:`OutboxRelay`."""

    batch_size: int
    lease: timedelta
    longest_retry: timedelta
    claim_name: Callable[[], str]


@dataclass
class Batches:
    """One batch at a time, for any thread.

    The outcome of a batch is written in the transaction that claims the next, or by
    :meth:`settle`: a transaction for each batch instead of two. It is kept until that is committed.
    """

    engine: Engine
    outbox: Outbox
    publisher: SupportsPublish
    terms: Terms
    failing: FailingDestinations
    select: Callable[[Claim, int, Sequence[str]], list[ClaimedMessage]]
    _turn: threading.RLock = field(default_factory=threading.RLock, init=False)
    _unsettled: _Settlement | None = field(default=None, init=False)
    _publishing_since_s: float | None = field(default=None, init=False)

    @property
    def publishing_s(self) -> float:
        """For how long the publisher has not answered; 0 while none is awaited."""
        since_s = self._publishing_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def relay(self, failing: Sequence[str], *, settle: bool = True) -> Relayed:
        """Claims a batch, publishes it and settles it. Without ``settle`` a batch of which
        something was confirmed is left to the next call, which is to follow at once.

        Raises SQLAlchemy's error when the database refuses, :class:`BrokerUnavailable` when
        nothing could be published.
        """
        with self._turn:
            claimed_by = self.terms.claim_name()
            batch = self._settle_and_claim(failing, claimed_by)
            relayed = self._relay(batch, claimed_by) if batch else Relayed()
            if settle or not relayed.confirmed:
                self.settle()
            return relayed

    def settle(self) -> None:
        """Writes the outcome of the last batch."""
        with self._turn:
            if self._unsettled is not None:
                with self.engine.begin() as tx:
                    self._write_outcome(tx)
                self._unsettled = None

    def _settle_and_claim(self, failing: Sequence[str], claimed_by: str) -> list[ClaimedMessage]:
        claim = partial(self.outbox.claim, claimed_by=claimed_by, lease=self.terms.lease)
        with self.engine.begin() as tx:
            self._write_outcome(tx)
            batch = self.select(partial(claim, tx), self.terms.batch_size, failing)
        self._unsettled = None
        return batch

    def _write_outcome(self, tx: Connection) -> None:
        if (known := self._unsettled) is not None:
            self.outbox.delete_confirmed(tx, known.confirmed)
            self.outbox.postpone_failed(tx, known.failures, claimed_by=known.claimed_by)
            self.outbox.release(tx, known.untried, claimed_by=known.claimed_by)

    def _relay(self, batch: Sequence[ClaimedMessage], claimed_by: str) -> Relayed:
        self._publishing_since_s = time.monotonic()
        try:
            outcomes = self._publish(batch)
            self._unsettled = settlement = self._settlement(batch, outcomes, claimed_by)
        except BaseException:
            self._publishing_since_s = None
            self._unsettled = _Settlement(claimed_by, untried=[row.row_id for row in batch])
            self.settle()
            raise
        finally:
            self._publishing_since_s = None
        return Relayed(len(settlement.confirmed), len(settlement.failures))

    def _publish(self, batch: Sequence[ClaimedMessage]) -> Sequence[Exception | None]:
        try:
            return self.publisher.publish_envelopes([row.message for row in batch])
        except BrokerUnavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [error]
        # The publisher fails on one of the messages: publishing each alone shows which, so that it
        # does not hold up the others. What it had published before is published twice.
        return [outcome for row in batch for outcome in self._publish([row])]

    def _settlement(
        self,
        batch: Sequence[ClaimedMessage],
        outcomes: Sequence[Exception | None],
        claimed_by: str,
    ) -> _Settlement:
        pairs = list(zip(batch, outcomes, strict=True))
        _log_failures(pairs)
        self.failing.learn(pairs)
        return _Settlement(
            claimed_by,
            confirmed=[row.row_id for row, error in pairs if error is None],
            failures=[self._failure(row, error) for row, error in pairs if error is not None],
        )

    def _failure(self, row: ClaimedMessage, error: Exception) -> Failure:
        pause = min(self.terms.longest_retry, _FIRST_RETRY * 2 ** min(row.attempts, 20))
        text = f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH]
        # As every database can store it: a text that it refused would keep the whole batch.
        return Failure(row.row_id, text.encode(errors="replace").decode().replace("\0", "?"), pause)


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
        in_a_line(error),
        exc_info=None if isinstance(error, PublishError) else error,
    )

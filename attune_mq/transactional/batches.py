"""One batch of an outbox after the other: claim it, publish it, settle it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection, Engine

from attune_mq.errors import BrokerUnavailable, PublishError
from attune_mq.message.masking import in_a_line
from attune_mq.transactional.outbox import ClaimedMessage, Failure, OutboundMessage, Outbox

logger = logging.getLogger(__name__)


_FIRST_RETRY = timedelta(seconds=1)
_LONGEST_ERROR = 1_000
_MOST_DESTINATIONS = 100


class SupportsPublish(Protocol):
    """What the relay needs of a publisher."""

    def publish_envelopes(self, items: Sequence[OutboundMessage]) -> Sequence[PublishError | None]:
        """Publish all, with the confirms in flight together, and wait for them.

        One outcome for each message, in order; ``None``: the broker confirmed it. Raises
        :class:`BrokerUnavailable` when nothing could be published. Called from two threads.
        """
        ...


@dataclass(frozen=True)
class Relayed:
    """What one turn of the relay did: how many messages were confirmed, how many were not."""

    confirmed: int = 0
    failed: int = 0

    def __add__(self, other: Relayed) -> Relayed:
        return Relayed(self.confirmed + other.confirmed, self.failed + other.failed)


@dataclass(frozen=True)
class Terms:
    """How an outbox is relayed; the meaning of each stands at :class:`OutboxRelay`."""

    batch_size: int
    lease: timedelta
    longest_retry: timedelta
    claim_name: Callable[[], str]
    now: Callable[[], datetime]


class FailingDestinations:
    """Where the last batch that had messages for it got none of them confirmed, the one tried last
    at the end. From any thread. Of more than :data:`_MOST_DESTINATIONS` the latest."""

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
            for oldest in list(self._known)[:-_MOST_DESTINATIONS]:
                del self._known[oldest]


class Claim(Protocol):
    """Claims a batch, with regard to the destinations that fail."""

    def __call__(
        self, tx: Connection, outbox: Outbox, terms: Terms, failing: Sequence[str], claimed_by: str
    ) -> list[ClaimedMessage]: ...


def claim_others(
    tx: Connection, outbox: Outbox, terms: Terms, failing: Sequence[str], claimed_by: str
) -> list[ClaimedMessage]:
    """Of all but those that fail."""
    return outbox.claim(
        tx,
        claimed_by=claimed_by,
        limit=terms.batch_size,
        lease=terms.lease,
        to="others" if failing else "any",
        destinations=failing,
    )


def claim_of_each(
    tx: Connection, outbox: Outbox, terms: Terms, failing: Sequence[str], claimed_by: str
) -> list[ClaimedMessage]:
    """The same number of each that fails, so that one which takes messages again is found however
    many wait for the others; then as many as there is room for."""
    batch: list[ClaimedMessage] = []
    share = max(1, terms.batch_size // len(failing))
    have_more = list(failing)
    for most in (share, terms.batch_size):
        asked, have_more = have_more, []
        for destination in asked:
            if limit := min(most, terms.batch_size - len(batch)):
                taken = outbox.claim(
                    tx,
                    claimed_by=claimed_by,
                    limit=limit,
                    lease=terms.lease,
                    to="these",
                    destinations=[destination],
                )
                batch += taken
                have_more += [destination] if len(taken) == limit else []
    return sorted(batch, key=lambda row: row.row_id)


@dataclass(frozen=True)
class _Settlement:
    """What is known of a claimed batch and is still to be written to the database."""

    claimed_by: str
    confirmed: Sequence[int] = ()
    failures: Sequence[Failure] = ()
    untried: Sequence[int] = ()


class Batches:
    """One batch at a time, whoever asks.

    What is known of a batch is written in the transaction that claims the next, or by
    :meth:`settle`: a transaction for each batch instead of two. It stays known until that is
    committed.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        publisher: SupportsPublish,
        terms: Terms,
        failing: FailingDestinations,
        claim: Claim,
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._publisher = publisher
        self._terms = terms
        self._failing = failing
        self._claim = claim
        self._turn = threading.RLock()
        self._unsettled: _Settlement | None = None
        self._publishing_since_s: float | None = None

    @property
    def publishing_s(self) -> float:
        """For how long the publisher has not answered; 0 while it is not asked."""
        since_s = self._publishing_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def relay(self, failing: Sequence[str], *, settle: bool = True) -> Relayed:
        """Claims a batch, publishes it and settles it. Without ``settle`` a batch of which
        something was confirmed is left to the next, which is to come at once.

        Raises SQLAlchemy's error when the database refuses, :class:`BrokerUnavailable` when
        nothing could be published.
        """
        with self._turn:
            relayed = self._relay(failing)
            if settle or not relayed.confirmed:
                self.settle()
            return relayed

    def _relay(self, failing: Sequence[str]) -> Relayed:
        claimed_by, batch = self._settle_and_claim(failing)
        if not batch:
            return Relayed()
        try:
            self._unsettled = self._judge(claimed_by, batch, self._publish(batch))
        except BaseException:
            self._unsettled = _Settlement(claimed_by, untried=[row.row_id for row in batch])
            self.settle()
            raise
        return Relayed(len(self._unsettled.confirmed), len(self._unsettled.failures))

    def settle(self) -> None:
        """Writes what is known of the last batch."""
        with self._turn:
            if self._unsettled is None:
                return
            with self._engine.begin() as tx:
                self._write_known(tx)
            self._unsettled = None

    def _settle_and_claim(self, failing: Sequence[str]) -> tuple[str, list[ClaimedMessage]]:
        claimed_by = self._terms.claim_name()
        with self._engine.begin() as tx:
            self._write_known(tx)
            batch = self._claim(tx, self._outbox, self._terms, failing, claimed_by)
        self._unsettled = None
        return claimed_by, batch

    def _publish(self, batch: Sequence[ClaimedMessage]) -> Sequence[Exception | None]:
        self._publishing_since_s = time.monotonic()
        try:
            return self._publish_each(batch)
        finally:
            self._publishing_since_s = None

    def _publish_each(self, batch: Sequence[ClaimedMessage]) -> Sequence[Exception | None]:
        try:
            return self._publisher.publish_envelopes([row.message for row in batch])
        except BrokerUnavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [error]
        # One message makes the publisher stumble: find out which, or it holds up all the others.
        # What had been published before it stumbled goes out twice, under the same ids.
        return [outcome for row in batch for outcome in self._publish_each([row])]

    def _judge(
        self,
        claimed_by: str,
        batch: Sequence[ClaimedMessage],
        outcomes: Sequence[Exception | None],
    ) -> _Settlement:
        pairs = list(zip(batch, outcomes, strict=True))
        _log_failures(pairs)
        self._failing.learn(pairs)
        return _Settlement(
            claimed_by,
            confirmed=[row.row_id for row, error in pairs if error is None],
            failures=[self._failure(row, error) for row, error in pairs if error is not None],
        )

    def _failure(self, row: ClaimedMessage, error: Exception) -> Failure:
        pause = min(self._terms.longest_retry, _FIRST_RETRY * 2 ** min(row.attempts, 20))
        return Failure(row.row_id, _described(error), self._terms.now() + pause)

    def _write_known(self, tx: Connection) -> None:
        if (known := self._unsettled) is None:
            return
        self._outbox.delete_confirmed(tx, known.confirmed)
        self._outbox.postpone_failed(tx, known.failures, claimed_by=known.claimed_by)
        self._outbox.release(tx, known.untried, claimed_by=known.claimed_by)


def _described(error: Exception) -> str:
    """As every database can store it: a text that it refused would keep the whole batch."""
    said = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
    return said.encode(errors="replace").decode().replace("\0", "?")


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

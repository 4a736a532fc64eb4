"""The outbox: messages to publish are part of the transaction that decides to publish them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, get_args

from sqlalchemy import Connection, Executable, Row, Table

from attune_mq.message.envelope import Envelope, encode
from attune_mq.message.payload import Payload
from attune_mq.transactional.outbox_rows import READY, Cause, Statements, To, destination
from attune_mq.transactional.schema import from_us, to_us, utc_now

_TO: tuple[To, ...] = get_args(To)
_MICROSECOND = timedelta(microseconds=1)


class SupportsRoute(Protocol):
    """Where a message is published: any object with these two, such as a topology's route."""

    @property
    def exchange(self) -> str: ...

    @property
    def routing_key(self) -> str: ...


@dataclass(frozen=True)
class OutboundMessage:
    """A message as it is published: its body and the AMQP properties that repeat parts of it.

    ``exchange`` and ``routing_key`` are both set or both ``None``; without them the publisher
    looks up the route of ``message_type`` in its topology when it publishes. ``headers`` are AMQP
    headers.
    """

    message_id: str
    correlation_id: str
    message_type: str
    timestamp: datetime
    body: bytes
    exchange: str | None = None
    routing_key: str | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ClaimedMessage:
    """A row of the outbox: its message, and how many attempts to publish it have failed."""

    row_id: int
    attempts: int
    message: OutboundMessage

    @property
    def destination(self) -> str:
        """What rows have in common that are likely to fail together."""
        message = self.message
        return destination(message.exchange, message.routing_key, message.message_type)


@dataclass(frozen=True)
class Failure:
    """One attempt to publish a row that was not confirmed, and how long until the next."""

    row_id: int
    error: str
    retry_after: timedelta


class Backlog(NamedTuple):
    """What is due and not yet confirmed, and the age of the oldest of it (0 when there is none)."""

    messages: int
    oldest_age_s: float


class Failing(NamedTuple):
    """Rows with failed attempts, of one cause: how many, and how long the oldest has been due."""

    cause: Cause
    messages: int
    oldest_age_s: float


class Outbox:
    """Messages to publish, written in the transaction that decides to publish them.

    ::

        with engine.begin() as tx:
            ...                                        # the effect
            outbox.add(tx, ExecutionRequested(...))    # and the message about it
        relay.wake()

    Both are committed or neither is. An :class:`OutboxRelay` publishes what is committed. Rows
    leave in the order in which they were added, by the ``id`` that the database counts up, not by
    a clock (:mod:`attune_mq.transactional.outbox_rows` lists what waits by one).
    ``source_service`` is written to the headers of the envelopes. ``headers`` is called for each
    message that is added, and returns the AMQP headers to publish it with, such as those of its
    trace (:meth:`attune_mq.tracing.Tracing.headers`). ``now`` is the clock, of its relay as well.
    """

    def __init__(
        self,
        table: Table,
        *,
        source_service: str | None = None,
        headers: Callable[[], Mapping[str, str]] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._headers = headers
        self._source_service = source_service
        self._now = now
        self._sql = Statements(table)
        self._claim_ready = {to: self._sql.claim_ready(to) for to in _TO}
        self._claim_waiting = {to: self._sql.claim_waiting(to) for to in _TO}

    def add(
        self,
        tx: Connection,
        payload: Payload,
        *,
        route: SupportsRoute | None = None,
        correlation_id: str | None = None,
        trace_id: str | None = None,
        not_before: datetime | None = None,
    ) -> Envelope:
        """Adds a new message with *payload*, and returns it.

        Published to *route*, or to the route of its type in the publisher's topology; at once, or
        not before *not_before*. A clock that is set back below the present moment does not prolong
        the wait: it then begins anew. ``correlation_id`` is the new message's own id unless given.
        The body is stored in clear, secrets included.

        Raises :class:`~attune_mq.errors.MalformedMessage` if an argument does not fit the wire,
        ``ValueError`` for a *not_before* without a time zone.
        """
        envelope = Envelope.of(
            payload,
            source_service=self._source_service,
            correlation_id=correlation_id,
            trace_id=trace_id,
            now=self._now(),
        )
        self.add_envelope(tx, envelope, route=route, not_before=not_before)
        return envelope

    def add_envelope(
        self,
        tx: Connection,
        envelope: Envelope,
        *,
        route: SupportsRoute | None = None,
        not_before: datetime | None = None,
    ) -> None:
        """Adds an existing message, under its own id; otherwise as :meth:`add`.

        Its timestamp shows that a clock was set back. One that is later than the present may
        therefore shorten a wait, by as much as it is later."""
        now_us = to_us(self._now())
        due_at_us = now_us if not_before is None else to_us(not_before)
        headers = self._headers() if self._headers is not None else None
        row = {
            "message_id": envelope.message_id,
            "correlation_id": envelope.correlation_id,
            "message_type": envelope.message_type,
            "timestamp_us": to_us(envelope.timestamp),
            "body": encode(envelope),
            "exchange": None if route is None else route.exchange,
            "routing_key": None if route is None else route.routing_key,
            "due_at_us": due_at_us,
            "available_at_us": due_at_us if due_at_us > now_us else READY,
            "headers": json.dumps(dict(headers)) if headers else None,
        }
        tx.execute(self._sql.insertion, row)

    def backlog(self, tx: Connection) -> Backlog:
        """How much is due and not yet confirmed. Delayed messages count from when they are due.

        The number is right whatever the clock says; an age is never below 0."""
        now_us = to_us(self._now())
        messages, oldest_us = tx.execute(self._sql.backlog, {"now_us": now_us}).one()
        return Backlog(messages, _age_s(oldest_us, now_us))

    def failing(self, tx: Connection, *, attempts: int = 1) -> tuple[Failing, ...]:
        """What was tried ``attempts`` times or more and is still not confirmed, one for each cause,
        the most frequent first."""
        now_us = to_us(self._now())
        found = tx.execute(self._sql.failing, {"attempts_least": attempts})
        return tuple(
            Failing(cause, messages, _age_s(oldest_us, now_us))
            for cause, messages, oldest_us in found
        )

    def claim(
        self,
        tx: Connection,
        *,
        claimed_by: str,
        limit: int,
        lease: timedelta,
        to: To = "any",
        destinations: Collection[str] = (),
    ) -> list[ClaimedMessage]:
        """Claims up to ``limit`` due messages for ``lease``: those that are ready, in the order in
        which they were added. A quarter, or one, is kept for those that were delayed or failed and
        are due now. A claim of one row is for either, at random.

        ``to``: any destination, or only ``these`` of ``destinations``, or all ``others``.

        Until the lease ends nobody else can claim them. Several processes may claim at the same
        time: on PostgreSQL each skips rows that another is claiming, on SQLite one waits for the
        other.
        """
        now = self._now()
        parameters = {
            "now_us": to_us(now),
            "until_us": to_us(now + lease),
            "holder": claimed_by,
            "destinations": list(destinations),
        }

        def take(statements: Mapping[To, Executable], most: int) -> Sequence[Row[Any]]:
            return tx.execute(statements[to], {"most": most, **parameters}).all() if most else ()

        kept = max(limit // 4, 1 if limit > 1 else random.getrandbits(1))
        taken = [*take(self._claim_waiting, kept)]
        are_more = len(taken) == kept
        taken += take(self._claim_ready, limit - len(taken))
        if are_more:
            taken += take(self._claim_waiting, limit - len(taken))
        return [_claimed(row) for row in sorted(taken, key=lambda row: row.id)]

    def holders(self, tx: Connection) -> set[str]:
        """Who has claimed something: the values of ``claimed_by``."""
        return set(tx.execute(self._sql.holders).scalars())

    def release_claims_of(self, tx: Connection, holders: Collection[str]) -> None:
        """Releases what is claimed by ``holders``, which are known to be gone.

        What they had published and not deleted is then published again, under its id."""
        if holders:
            values = {"holders": list(holders), "now_us": to_us(self._now())}
            tx.execute(self._sql.release_of, values)

    def limit_waits(self, tx: Connection, *, lease: timedelta, longest_retry: timedelta) -> None:
        """Shortens each wait that would end later than one which begins now: the clock was set
        back, or that of another process is ahead. Give the longest lease and pause of all relays.
        """
        values = {
            "now_us": to_us(self._now()),
            "lease_us": lease // _MICROSECOND,
            "pause_us": longest_retry // _MICROSECOND,
        }
        tx.execute(self._sql.limit_waits, values)

    def delete_confirmed(self, tx: Connection, row_ids: Iterable[int]) -> None:
        """Deletes what the broker confirmed, whichever relay holds the claim. Nothing else."""
        if ids := list(row_ids):
            tx.execute(self._sql.deletion, {"row_ids": ids})

    def postpone_failed(
        self, tx: Connection, failures: Iterable[Failure], *, claimed_by: str
    ) -> None:
        """Counts a failed attempt of each row, which waits until its ``retry_after`` is over."""
        now = self._now()
        values = [
            {
                "row_id": one.row_id,
                "holder": claimed_by,
                "error": one.error,
                "at_us": to_us(now + one.retry_after),
            }
            for one in failures
        ]
        if values:
            tx.execute(self._sql.postponement, values)

    def release(self, tx: Connection, row_ids: Iterable[int], *, claimed_by: str) -> None:
        """Releases the rows that are still claimed; no attempt is counted."""
        if ids := list(row_ids):
            values = {"row_ids": ids, "holder": claimed_by, "now_us": to_us(self._now())}
            tx.execute(self._sql.release, values)


def _age_s(since_us: int | None, now_us: int) -> float:
    return 0.0 if since_us is None else max(0, now_us - since_us) / 1_000_000


def _claimed(row: Row[Any]) -> ClaimedMessage:
    message = OutboundMessage(
        message_id=row.message_id,
        correlation_id=row.correlation_id,
        message_type=row.message_type,
        timestamp=from_us(row.timestamp_us),
        body=row.body,
        exchange=row.exchange,
        routing_key=row.routing_key,
        headers=json.loads(row.headers) if row.headers else None,
    )
    return ClaimedMessage(row_id=row.id, attempts=row.attempts, message=message)

"""The outbox: what a transaction wants published is part of that transaction."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, get_args

from sqlalchemy import Connection, Row, Table, Update, insert

from attune_mq.message.envelope import Envelope, encode
from attune_mq.message.payload import Payload
from attune_mq.transactional import outbox_rows as rows
from attune_mq.transactional.outbox_rows import Cause, To
from attune_mq.transactional.schema import from_us, to_us, utc_now
from attune_mq.transactional.statements import Prepared

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

    ``exchange`` and ``routing_key`` are both there or both ``None``; without them the publisher
    asks its topology where this ``message_type`` goes, at the time of publishing. ``headers``: of
    AMQP.
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
    """A row of the outbox: its message, and how often it was published in vain so far.

    ``destination``: what rows have in common that are likely to fail together.
    """

    row_id: int
    attempts: int
    message: OutboundMessage

    @property
    def destination(self) -> str:
        message = self.message
        return rows.destination(message.exchange, message.routing_key, message.message_type)


@dataclass(frozen=True)
class Failure:
    """One attempt to publish a row that was not confirmed, and when to try again."""

    row_id: int
    error: str
    retry_at: datetime


class Backlog(NamedTuple):
    """What is due and not yet confirmed, and the age of the oldest of it (0 when there is none)."""

    messages: int
    oldest_age_s: float


class Failing(NamedTuple):
    """Rows that were published in vain, of one cause: how many, and how long the oldest is due."""

    cause: Cause
    messages: int
    oldest_age_s: float


class Outbox:
    """Messages to publish, written in the transaction that decides to publish them.

    ::

        with engine.begin() as tx:
            ...                                        # the effect
            outbox.add(tx, ExecutionRequested(...))    # and what it says to others
        relay.wake()

    Either both are committed or neither is: no message about what was rolled back, none forgotten
    by a process that dies after its commit. An :class:`OutboxRelay` publishes what is committed.
    Rows leave in the order in which they were added, by the ``id`` that the database counts up,
    not by a clock (:mod:`attune_mq.transactional.outbox_rows` says what waits by one).
    ``source_service`` is the name that the messages' headers carry.
    ``headers``: called for each message that is added; what it returns is published as AMQP headers
    with it, such as the trace that it belongs to (:meth:`attune_mq.tracing.Tracing.headers`).
    """

    def __init__(
        self,
        table: Table,
        *,
        source_service: str | None = None,
        headers: Callable[[], Mapping[str, str]] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._table = table
        self._headers = headers
        self._source_service = source_service
        self._now = now
        self._insertion = Prepared(lambda _: insert(table))
        self._ready = {to: Prepared(_claim(rows.claim_ready, table, to)) for to in _TO}
        self._waiting = {to: Prepared(_claim(rows.claim_waiting, table, to)) for to in _TO}
        self._deletion = Prepared(lambda _: rows.deletion(table))
        self._postponement = Prepared(lambda _: rows.postponement(table))
        self._release = Prepared(lambda _: rows.release(table))
        self._release_of = Prepared(lambda _: rows.release_of(table))
        self._limiting = Prepared(lambda _: rows.limiting(table))
        self._holders = Prepared(lambda _: rows.holders(table))
        self._backlog = Prepared(lambda _: rows.backlog(table))
        self._failing = Prepared(lambda _: rows.failing(table))

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
        """Say *payload* in a new message, and return it.

        Published to *route*, or to where the publisher's topology sends this message type; not
        before *not_before*, and at once without it. A clock that is set back below the present
        moment does not prolong the wait: it then begins anew. ``correlation_id`` is the new
        message's own id unless given. The body stands in the database in clear, secrets included.

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
        """Publish a message that exists, under its own id; otherwise as :meth:`add`.

        By its timestamp a clock that was set back is noticed. One that is later than the present
        may therefore cut a wait short, by as much as it is later."""
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
            "available_at_us": due_at_us if due_at_us > now_us else rows.READY,
            "headers": json.dumps(dict(headers)) if headers else None,
        }
        self._insertion.execute(tx, **row)

    def backlog(self, tx: Connection) -> Backlog:
        """How much is due and not yet confirmed. Delayed messages count from when they are due.

        The number is right whatever the clock says; an age is never below 0."""
        now_us = to_us(self._now())
        due = self._backlog.execute(tx, now_us=now_us).one()
        return Backlog(due.messages, _age_s(due.oldest_us, now_us))

    def failing(self, tx: Connection, *, attempts: int = 1) -> tuple[Failing, ...]:
        """What was tried ``attempts`` times or more and is still not confirmed, a cause each, the
        most frequent first."""
        now_us = to_us(self._now())
        found = self._failing.execute(tx, attempts_least=attempts)
        return tuple(
            Failing(one.cause, one.messages, _age_s(one.oldest_us, now_us)) for one in found
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
        """Take up to ``limit`` messages that are due for ``lease``: those that are ready, in the
        order in which they were added. A quarter, or one, is kept for those that were delayed or
        failed, and whose time has come. A claim of one row is for either, by chance.

        ``to``: any destination, or only ``these`` of ``destinations``, or all ``others``.

        Until the lease ends nobody else can claim them. Several processes may claim at the same
        time: on PostgreSQL each passes over what another is just claiming, on SQLite one waits for
        the other.
        """
        now = self._now()
        parameters = {"now_us": to_us(now), "until_us": to_us(now + lease), "holder": claimed_by}
        if to != "any":
            parameters["destinations"] = list(destinations)

        def take(statements: Mapping[To, Prepared], most: int) -> Sequence[Row[Any]]:
            return statements[to].execute(tx, most=most, **parameters).all() if most else ()

        kept = max(limit // 4, 1 if limit > 1 else random.getrandbits(1))
        taken = [*take(self._waiting, kept)]
        are_more = len(taken) == kept
        taken += take(self._ready, limit - len(taken))
        if are_more:
            taken += take(self._waiting, limit - len(taken))
        return [_claimed(row) for row in sorted(taken, key=lambda row: row.id)]

    def holders(self, tx: Connection) -> set[str]:
        """Who has claimed something: the values of ``claimed_by``."""
        return set(self._holders.execute(tx).scalars())

    def release_claims_of(self, tx: Connection, holders: Collection[str]) -> None:
        """Set free at once what is claimed by ``holders``, of whom it is known that they are gone.

        What they had published and not deleted is then published again, under its id."""
        if holders:
            self._release_of.execute(tx, holders=list(holders), now_us=to_us(self._now()))

    def limit_waits(self, tx: Connection, *, lease: timedelta, longest_retry: timedelta) -> None:
        """Shorten each wait that would end later than one which begins now: the clock was set back,
        or that of another process is ahead. Give the longest lease and pause of all relays."""
        self._limiting.execute(
            tx,
            now_us=to_us(self._now()),
            lease_us=lease // _MICROSECOND,
            pause_us=longest_retry // _MICROSECOND,
        )

    def delete_confirmed(self, tx: Connection, row_ids: Iterable[int]) -> None:
        """Delete what the broker confirmed, whoever holds the claim by now. Nothing else."""
        if ids := list(row_ids):
            self._deletion.execute(tx, row_ids=ids)

    def postpone_failed(
        self, tx: Connection, failures: Iterable[Failure], *, claimed_by: str
    ) -> None:
        """Count a failed attempt of each row, which waits, by itself, until its ``retry_at``."""
        values = [
            {"row_id": f.row_id, "holder": claimed_by, "error": f.error, "at_us": to_us(f.retry_at)}
            for f in failures
        ]
        self._postponement.execute_many(tx, values)

    def release(self, tx: Connection, row_ids: Iterable[int], *, claimed_by: str) -> None:
        """Set the rows free at once, those that are still claimed; no attempt is counted."""
        if ids := list(row_ids):
            self._release.execute(tx, row_ids=ids, holder=claimed_by, now_us=to_us(self._now()))


def _claim(
    build: Callable[[Table, To], Update], table: Table, to: To
) -> Callable[[Connection], Update]:
    return lambda _: build(table, to)


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

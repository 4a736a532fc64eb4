"""The outbox: what a transaction wants published is part of that transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Row,
    Table,
    Update,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from attune_mq.messaging.envelope import Envelope, encode
from attune_mq.messaging.payload_model import Payload
from attune_mq.transactional.schema import from_us, to_us, utc_now
from attune_mq.transactional.statements import Prepared


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
    """A row of the outbox: its message, and how often it was published in vain so far."""

    row_id: int
    attempts: int
    message: OutboundMessage


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


class Outbox:
    """Messages to publish, written in the transaction that decides to publish them.

    ::

        with engine.begin() as tx:
            ...                                        # the effect
            outbox.add(tx, ExecutionRequested(...))    # and what it says to others
        relay.wake()

    Either both are committed or neither is: no message about what was rolled back, none forgotten
    by a process that dies after its commit. An :class:`OutboxRelay` publishes what is committed.
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
        self._claim = Prepared(lambda _: _claim(table))
        self._deletion = Prepared(lambda _: _deletion(table))
        self._postponement = Prepared(lambda _: _postponement(table))
        self._release = Prepared(lambda _: _release(table))

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
        before *not_before*, and at once without it. ``correlation_id`` is the new message's own id
        unless given. The body stands in the database in clear, secrets included.

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
        """Publish a message that exists, under its own id; otherwise as :meth:`add`."""
        due_at_us = to_us(not_before or self._now())
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
            "available_at_us": due_at_us,
            "headers": json.dumps(dict(headers)) if headers else None,
        }
        self._insertion.execute(tx, **row)

    def backlog(self, tx: Connection) -> Backlog:
        """How much is due and not yet confirmed. Delayed messages count from when they are due."""
        now_us = to_us(self._now())
        outbox = self._table.c
        due = select(func.count(), func.min(outbox.due_at_us)).where(outbox.due_at_us <= now_us)
        messages, oldest_us = tx.execute(due).one()
        return Backlog(messages, (now_us - oldest_us) / 1_000_000 if messages else 0.0)

    def claim(
        self, tx: Connection, *, claimed_by: str, limit: int, lease: timedelta
    ) -> list[ClaimedMessage]:
        """Take up to ``limit`` messages that are due, the longest due first, for ``lease``.

        Until the lease ends nobody else can claim them. Several processes may claim at the same
        time: on PostgreSQL each passes over what another is just claiming, on SQLite one waits for
        the other.
        """
        now = self._now()
        taken = self._claim.execute(
            tx, holder=claimed_by, most=limit, now_us=to_us(now), until_us=to_us(now + lease)
        )
        rows = sorted(taken, key=lambda row: (row.due_at_us, row.id))
        return [_claimed(row) for row in rows]

    def delete_confirmed(self, tx: Connection, row_ids: Iterable[int]) -> None:
        """Delete what the broker confirmed, whoever holds the claim by now. Nothing else."""
        if ids := list(row_ids):
            self._deletion.execute(tx, row_ids=ids)

    def postpone_failed(
        self, tx: Connection, failures: Iterable[Failure], *, claimed_by: str
    ) -> None:
        """Count a failed attempt of each row, and give it free for ``retry_at``."""
        values = [
            {"row_id": f.row_id, "holder": claimed_by, "error": f.error, "at_us": to_us(f.retry_at)}
            for f in failures
        ]
        self._postponement.execute_many(tx, values)

    def release(self, tx: Connection, row_ids: Iterable[int], *, claimed_by: str) -> None:
        """Give the rows free at once, those that are still claimed; no attempt is counted."""
        if ids := list(row_ids):
            self._release.execute(tx, row_ids=ids, holder=claimed_by, now_us=to_us(self._now()))


def _claim(table: Table) -> Executable:
    outbox = table.c
    available = outbox.available_at_us <= bindparam("now_us")
    due = (
        select(outbox.id)
        .where(available)
        .order_by(outbox.available_at_us, outbox.id)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
        # A plain subquery could be evaluated again for each row, and so exceed the limit.
        .cte("due")
    )
    return (
        update(table)
        .where(outbox.id.in_(select(due.c.id)), available)
        .values(available_at_us=bindparam("until_us"), claimed_by=bindparam("holder"))
        .returning(table)
    )


def _deletion(table: Table) -> Executable:
    return delete(table).where(table.c.id.in_(bindparam("row_ids", expanding=True)))


def _postponement(table: Table) -> Executable:
    return _held(table, table.c.id == bindparam("row_id")).values(
        attempts=table.c.attempts + 1,
        last_error=bindparam("error"),
        available_at_us=bindparam("at_us"),
        claimed_by=None,
    )


def _release(table: Table) -> Executable:
    these = table.c.id.in_(bindparam("row_ids", expanding=True))
    return _held(table, these).values(available_at_us=bindparam("now_us"), claimed_by=None)


def _held(table: Table, these: ColumnElement[bool]) -> Update:
    """Not when another relay holds them by now, because the lease ended."""
    return update(table).where(these, table.c.claimed_by == bindparam("holder"))


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

"""The two tables of the inbox and the outbox, and how a moment is stored in them.

A moment is an integer: microseconds since 1970-01-01 UTC, in a column whose name ends in ``_us``.
SQLite has no type for a moment and PostgreSQL's follows a time zone; integers compare alike in
both, and a Python ``datetime`` comes back as it went in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: SQLite counts rows up by itself only in a column of the type INTEGER.
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")


@dataclass(frozen=True)
class Tables:
    """The tables to give to :class:`Inbox` and :class:`Outbox`."""

    inbox: Table
    outbox: Table


def define_tables(metadata: MetaData, prefix: str = "attune_") -> Tables:
    """Define ``<prefix>inbox`` and ``<prefix>outbox`` on ``metadata``; creates nothing.

    Call it once for a ``MetaData``. The service creates the tables with its own migrations, or
    with ``metadata.create_all(engine)``. SQLAlchemy's ``InvalidRequestError`` says that a table
    of that name is defined already.
    """
    return Tables(inbox=_inbox(metadata, prefix), outbox=_outbox(metadata, prefix))


def utc_now() -> datetime:
    """The present moment, aware of its time zone: the clock used where none is given."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC. Raises ``ValueError`` for a moment without a zone."""
    if moment.utcoffset() is None:
        raise ValueError(f"expected a moment with a time zone, got {moment.isoformat()}")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(moment_us: int) -> datetime:
    """The moment in UTC that :func:`to_us` stored."""
    return _EPOCH + timedelta(microseconds=moment_us)


def _inbox(metadata: MetaData, prefix: str) -> Table:
    name = f"{prefix}inbox"
    return Table(
        name,
        metadata,
        Column("scope", Text, nullable=False),
        Column("message_id", Text, nullable=False),
        Column("consumer", Text, nullable=False),
        Column("message_type", Text, nullable=True),
        Column("accepted_at_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("scope", "message_id", name=f"{name}_pkey"),
        Index(f"{name}_accepted_at", "accepted_at_us"),
    )


def _outbox(metadata: MetaData, prefix: str) -> Table:
    name = f"{prefix}outbox"
    return Table(
        name,
        metadata,
        Column("id", _ROW_ID, nullable=False, autoincrement=True),
        Column("message_id", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("message_type", Text, nullable=False),
        Column("timestamp_us", BigInteger, nullable=False),
        # Both or neither; without them the publisher asks its topology, by message type.
        Column("exchange", Text, nullable=True),
        Column("routing_key", Text, nullable=True),
        Column("body", LargeBinary, nullable=False),
        # When the message is due never changes. When a relay may take it does: a claim moves it
        # to the end of the claim's lease, a failure to the next attempt.
        Column("due_at_us", BigInteger, nullable=False),
        Column("available_at_us", BigInteger, nullable=False),
        Column("claimed_by", Text, nullable=True),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("last_error", Text, nullable=True),
        # AMQP headers as a JSON object; last, since it came to existing tables later.
        Column("headers", Text, nullable=True),
        PrimaryKeyConstraint("id", name=f"{name}_pkey"),
        Index(f"{name}_available_at", "available_at_us", "id"),
        # Without AUTOINCREMENT SQLite gives the id of a deleted last row to the next one, and a
        # slow relay that deletes what it published long ago would delete a message of today.
        sqlite_autoincrement=True,
    )

"""The tables, and how a time is stored in them: as microseconds since 1970-01-01 UTC.

SQLite has no type for it and PostgreSQL's follows a time zone; integers compare alike in both, and
a Python ``datetime`` is read as it was written. The names of such columns end in ``_us``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: SQLite assigns ids only in a column of the type INTEGER.
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


@dataclass(frozen=True)
class Tables:
    """The tables to give to :class:`Inbox` and :class:`Outbox`."""

    inbox: sa.Table
    outbox: sa.Table


def define_tables(metadata: sa.MetaData, prefix: str = "attune_") -> Tables:
    """Defines ``<prefix>inbox`` and ``<prefix>outbox`` on ``metadata``; creates nothing.

    The service creates the tables with its own migrations, or with
    ``metadata.create_all(engine)``. Raises SQLAlchemy's ``InvalidRequestError`` where a table of
    that name is defined already.
    """
    return Tables(_inbox(metadata, f"{prefix}inbox"), _outbox(metadata, f"{prefix}outbox"))


def define_stream_positions(metadata: sa.MetaData, prefix: str = "attune_") -> sa.Table:
    """Defines ``<prefix>stream_positions`` on ``metadata`` as :func:`define_tables` does, beside
    which it can be used or not."""
    name = f"{prefix}stream_positions"
    return sa.Table(
        name,
        metadata,
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("message_offset", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("advanced_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", "stream", "consumer", name=f"{name}_pkey"),
    )


def utc_now() -> datetime:
    """The present time, with its time zone: the default clock."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC. Raises ``ValueError`` for a time without a time zone."""
    if moment.utcoffset() is None:
        raise ValueError(f"expected a moment with a time zone, got {moment.isoformat()}")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(moment_us: int) -> datetime:
    """The inverse of :func:`to_us`, in UTC."""
    return _EPOCH + timedelta(microseconds=moment_us)


def _inbox(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("message_type", sa.Text, nullable=True),
        sa.Column("accepted_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", "message_id", name=f"{name}_pkey"),
        sa.Index(f"{name}_accepted_at", "accepted_at_us"),
    )


def _outbox(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", _ROW_ID, nullable=False, autoincrement=True),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("message_type", sa.Text, nullable=False),
        sa.Column("timestamp_us", sa.BigInteger, nullable=False),
        # Both or neither; without them the publisher looks up the message type in its topology.
        sa.Column("exchange", sa.Text, nullable=True),
        sa.Column("routing_key", sa.Text, nullable=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        # Never changes, unlike the next: a claim sets that to the end of its lease, a failure to
        # the next attempt.
        sa.Column("due_at_us", sa.BigInteger, nullable=False),
        sa.Column("available_at_us", sa.BigInteger, nullable=False),
        sa.Column("claimed_by", sa.Text, nullable=True),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text, nullable=True),
        # AMQP headers as a JSON object; last, since a migration adds it to existing tables.
        sa.Column("headers", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name=f"{name}_pkey"),
        sa.Index(f"{name}_available_at", "available_at_us", "id"),
        # Without AUTOINCREMENT SQLite gives the id of a deleted last row to the next one, and a
        # slow relay that deletes what it published long ago would delete a message of today.
        sqlite_autoincrement=True,
    )

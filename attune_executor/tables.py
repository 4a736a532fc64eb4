"""The executor's tables. The migrations make them; a test holds the two together."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

from attune_executor.lifecycle import WITH_WORKER
from attune_mq.payloads import EnforcementStatus, ExecutionStatus
from attune_mq.transactional import define_tables

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
    }
)

#: Inbox and outbox: the library's.
messages = define_tables(metadata)

#: JSON as text: what a rule or a worker sends is kept as it came, not looked into. (PostgreSQL's
#: ``jsonb`` would refuse a NUL character in it.)
_JSON = JSON(none_as_null=True)


def _words(status: type[StrEnum]) -> Enum:
    """A status as its lower-case word; no constraint, so that a new state needs no migration."""
    return Enum(
        status,
        native_enum=False,
        length=16,
        values_callable=lambda words: [word.value for word in words],
    )


enforcements = Table(
    "enforcements",
    metadata,
    Column("enforcement_id", BigInteger, primary_key=True, autoincrement=False),
    Column("rule_ref", Text, nullable=False),
    Column("trigger_ref", Text, nullable=False),
    Column("event_id", BigInteger),
    Column("payload", _JSON),
    Column("status", _words(EnforcementStatus), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("runtimes", _JSON, nullable=False),
    Column("registered_at_us", BigInteger, nullable=False),
    Column("last_seen_at_us", BigInteger, nullable=False),
)

executions = Table(
    "executions",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("enforcement_id", ForeignKey(enforcements.c.enforcement_id), unique=True),
    Column("action_ref", Text, nullable=False),
    Column("action_id", BigInteger),
    Column("config", _JSON),
    Column("status", _words(ExecutionStatus), nullable=False),
    Column("worker_id", ForeignKey(workers.c.worker_id)),
    Column("scheduling_attempts", Integer, nullable=False),
    Column("result", _JSON),
    Column("created_at_us", BigInteger, nullable=False),
    Column("updated_at_us", BigInteger, nullable=False),
    Column("scheduled_at_us", BigInteger),
    # When its worker first reported that it runs; when the dispatch of the last scheduling died.
    Column("started_at_us", BigInteger),
    Column("dispatch_died_at_us", BigInteger),
    # Messages name executions by their id, so one that was deleted is never given again.
    sqlite_autoincrement=True,
)

#: Which executions make a worker's load. Spelt out, not bound: an index over some rows serves a
#: query only where the database sees that it asks for those rows.
with_worker = text(f"status IN ({', '.join(sorted(repr(s.value) for s in WITH_WORKER))})")

Index(
    "executions_with_worker",
    executions.c.worker_id,
    sqlite_where=with_worker,
    postgresql_where=with_worker,
)

"""The executor's tables. The migrations make them; a test holds the two together."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from attune_executor.lifecycle import WITH_WORKER
from attune_mq.payloads import EnforcementStatus, ExecutionStatus
from attune_mq.transactional import define_tables

metadata = sa.MetaData(
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
_JSON = sa.JSON(none_as_null=True)


def _words(status: type[StrEnum]) -> sa.Enum:
    """A status as its lower-case word; no constraint, so that a new state needs no migration."""
    return sa.Enum(
        status,
        native_enum=False,
        length=16,
        values_callable=lambda words: [word.value for word in words],
    )


enforcements = sa.Table(
    "enforcements",
    metadata,
    sa.Column("enforcement_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("rule_ref", sa.Text, nullable=False),
    sa.Column("trigger_ref", sa.Text, nullable=False),
    sa.Column("event_id", sa.BigInteger),
    sa.Column("payload", _JSON),
    sa.Column("status", _words(EnforcementStatus), nullable=False),
    sa.Column("created_at_us", sa.BigInteger, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("worker_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("runtimes", _JSON, nullable=False),
    sa.Column("registered_at_us", sa.BigInteger, nullable=False),
    sa.Column("last_seen_at_us", sa.BigInteger, nullable=False),
)

executions = sa.Table(
    "executions",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("enforcement_id", sa.ForeignKey(enforcements.c.enforcement_id), unique=True),
    sa.Column("action_ref", sa.Text, nullable=False),
    sa.Column("action_id", sa.BigInteger),
    sa.Column("config", _JSON),
    sa.Column("status", _words(ExecutionStatus), nullable=False),
    sa.Column("worker_id", sa.ForeignKey(workers.c.worker_id)),
    sa.Column("scheduling_attempts", sa.Integer, nullable=False),
    sa.Column("result", _JSON),
    sa.Column("created_at_us", sa.BigInteger, nullable=False),
    sa.Column("updated_at_us", sa.BigInteger, nullable=False),
    sa.Column("scheduled_at_us", sa.BigInteger),
    # When its worker first reported that it runs; when the dispatch of the last scheduling died.
    sa.Column("started_at_us", sa.BigInteger),
    sa.Column("dispatch_died_at_us", sa.BigInteger),
    # Messages name executions by their id, so one that was deleted is never given again.
    sqlite_autoincrement=True,
)

#: Which executions make a worker's load. Spelt out, not bound: an index over some rows serves a
#: query only where the database sees that it asks for those rows.
with_worker = sa.text(f"status IN ({', '.join(sorted(repr(s.value) for s in WITH_WORKER))})")

sa.Index(
    "executions_with_worker",
    executions.c.worker_id,
    sqlite_where=with_worker,
    postgresql_where=with_worker,
)

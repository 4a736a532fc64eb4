"""The first tables: enforcements, workers, executions, inbox, outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "enforcements",
        sa.Column("enforcement_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rule_ref", sa.Text(), nullable=False),
        sa.Column("trigger_ref", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger()),
        sa.Column("payload", sa.JSON()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("enforcement_id", name="enforcements_pkey"),
    )
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("runtimes", sa.JSON(), nullable=False),
        sa.Column("registered_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name="workers_pkey"),
    )
    op.create_table(
        "executions",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("enforcement_id", sa.BigInteger()),
        sa.Column("action_ref", sa.Text(), nullable=False),
        sa.Column("action_id", sa.BigInteger()),
        sa.Column("config", sa.JSON()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("worker_id", sa.BigInteger()),
        sa.Column("scheduling_attempts", sa.Integer(), nullable=False),
        sa.Column("result", sa.JSON()),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.Column("scheduled_at_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="executions_pkey"),
        sa.UniqueConstraint("enforcement_id", name="executions_enforcement_id_key"),
        sa.ForeignKeyConstraint(
            ["enforcement_id"],
            ["enforcements.enforcement_id"],
            name="executions_enforcement_id_fkey",
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.worker_id"], name="executions_worker_id_fkey"
        ),
        sqlite_autoincrement=True,
    )
    with_worker = sa.text("status IN ('canceling', 'running', 'scheduled')")
    op.create_index(
        "executions_with_worker",
        "executions",
        ["worker_id"],
        sqlite_where=with_worker,
        postgresql_where=with_worker,
    )
    op.create_table(
        "attune_inbox",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("message_type", sa.Text()),
        sa.Column("accepted_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "message_id", name="attune_inbox_pkey"),
    )
    op.create_index("attune_inbox_accepted_at", "attune_inbox", ["accepted_at_us"])
    op.create_table(
        "attune_outbox",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("timestamp_us", sa.BigInteger(), nullable=False),
        sa.Column("exchange", sa.Text()),
        sa.Column("routing_key", sa.Text()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("due_at_us", sa.BigInteger(), nullable=False),
        sa.Column("available_at_us", sa.BigInteger(), nullable=False),
        sa.Column("claimed_by", sa.Text()),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="attune_outbox_pkey"),
        sqlite_autoincrement=True,
    )
    op.create_index("attune_outbox_available_at", "attune_outbox", ["available_at_us", "id"])

"""AMQP headers in the outbox, such as the trace that a message belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # An executor of the version before, which still runs beside this one, leaves it empty.
    op.add_column("attune_outbox", sa.Column("headers", sa.Text()))

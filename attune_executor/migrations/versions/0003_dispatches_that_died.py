"""When an execution was first reported as running, and when its dispatch died."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # An executor of the version before, which still runs beside this one, leaves them empty.
    op.add_column("executions", sa.Column("started_at_us", sa.BigInteger()))
    op.add_column("executions", sa.Column("dispatch_died_at_us", sa.BigInteger()))
    # What may have begun counts as begun: it is then never taken for what no worker has.
    op.execute(
        "UPDATE executions SET started_at_us = updated_at_us"
        " WHERE status IN ('running', 'canceling')"
    )

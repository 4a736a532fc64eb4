"""For developers: writes a revision from the difference between the tables and a database."""

from __future__ import annotations

import sys

from alembic import command

from attune_executor.migrations import configuration, migrate
from attune_mq.transactional import create_database_engine

if len(sys.argv) != 3:
    sys.exit('usage: python -m attune_executor.migrations URL "what changes"')

engine = create_database_engine(sys.argv[1])
migrate(engine)
with engine.begin() as tx:
    command.revision(configuration(tx), message=sys.argv[2], autogenerate=True)

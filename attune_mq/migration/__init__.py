"""Changing in place what RabbitMQ does not change in place; see :mod:`.migrating`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attune_mq.migration.context import *
    from attune_mq.migration.migrating import *
    from attune_mq.migration.report import *
else:
    from attune_mq.lazy_names import lazy_names

    __getattr__ = lazy_names(__name__, "report context migrating")

__all__ = [
    "CountMismatch",
    "MigratedExchange",
    "MigratedQueue",
    "Migration",
    "MigrationTimeouts",
    "NotMigrated",
    "Planned",
    "Progress",
    "Skipped",
    "Step",
    "migrate",
]

"""What the migrations of one call share: connection, publisher, HTTP API, limits, listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attune_mq.amqp.connection import Connection
from attune_mq.broker.management import ManagementClient
from attune_mq.migration.control import Control
from attune_mq.migration.policies import Policies, read_policies
from attune_mq.migration.report import NotMigrated, Progress, Step
from attune_mq.migration.unacked import (
    DEFAULT_STATISTICS_AGE_S,
    AssumedDrained,
    ManagementUnacked,
    UnackedCounter,
)
from attune_mq.publishing.publisher import Publisher

DEFAULT_STALL_S = 600.0


@dataclass(frozen=True)
class MigrationTimeouts:
    """``settle_s``: the caller asserts that no consumer holds a message for longer; used where
    there is no HTTP API. ``stall_s``: for how long a queue may make no progress towards empty, or
    have no room, before it is left as it was. ``statistics_age_s``: how old the figures of the HTTP
    API may be."""

    settle_s: float | None = None
    stall_s: float = DEFAULT_STALL_S
    statistics_age_s: float = DEFAULT_STATISTICS_AGE_S


@dataclass(frozen=True)
class MigrationContext:
    """``management``: ``None`` without HTTP API. ``accept_loss``: missing messages do not stop a
    migration."""

    connection: Connection
    control: Control
    publisher: Publisher
    management: ManagementClient | None
    vhost: str
    timeouts: MigrationTimeouts
    accept_loss: bool
    on_progress: Callable[[Progress], None]

    def progress(self, name: str, step: Step, moved: int = 0) -> None:
        self.on_progress(Progress(name, step, moved))

    def policies(self) -> Policies | None:
        """Those in effect now; ``None`` where they cannot be seen."""
        return None if self.management is None else read_policies(self.management, self.vhost)

    def unacked(self, queue: str, consumers: int) -> UnackedCounter | None:
        """Counts what consumers hold, those included that have cancelled and are still working;
        ``None`` where that cannot be counted and there are no consumers, other than ours. Raises
        :class:`NotMigrated` where it cannot and there are."""
        if self.management is not None:
            age_s = self.timeouts.statistics_age_s
            return ManagementUnacked(self.management, self.vhost, queue, age_s)
        if self.timeouts.settle_s is not None:
            return AssumedDrained(self.timeouts.settle_s)
        if consumers:
            raise NotMigrated(
                f"it has consumers ({consumers}), and AMQP does not say which messages they hold, "
                f"which would be lost with it: give --management-url; or stop them; or say with "
                f"--settle how long they hold a message at most"
            )
        return None

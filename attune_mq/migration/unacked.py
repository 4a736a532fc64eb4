"""How many messages of a queue its consumers hold unacknowledged.

They are lost with the queue when it is deleted, so a migration waits until there are none. As the
consumer of the highest priority it leaves the others without new messages while it has room. With
a single active consumer the priority does not help, but nothing new comes to the queue any more.
Either way ready and unacked messages together only decrease. AMQP does not say how many messages
are unacked. The HTTP API does, some seconds late.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from attune_mq.broker.management import ManagementClient

DEFAULT_STATISTICS_AGE_S = 6.0
"""RabbitMQ emits statistics every five seconds unless its configuration says otherwise."""
ASK_EVERY_S = 0.5


@dataclass
class ManagementUnacked:
    """What the HTTP API says, once it speaks of a time in which the others were given nothing.

    ``statistics_age_s``: how old its figures may be. On a busy broker they can be older, so they
    also have to count the migration's own consumer."""

    client: ManagementClient
    vhost: str
    queue: str
    statistics_age_s: float
    _asked_at: float = field(default=float("-inf"))
    _unacked: int | None = None

    def is_zero(self, alone_s: float, consumers: int) -> bool:
        """``alone_s``: for how long no other consumer was given a message, or none was ready.
        ``consumers``: how many the queue has now, the migration's included."""
        now = time.monotonic()
        if alone_s < self.statistics_age_s or now - self._asked_at < ASK_EVERY_S:
            return False
        self._asked_at = now
        totals = self.client.queue_totals(self.vhost, self.queue)
        is_new = totals is not None and totals.consumers == consumers
        self._unacked = totals.messages if totals is not None and is_new else None
        return self._unacked == 0

    def __str__(self) -> str:
        if self._unacked is None:
            return "the HTTP API did not say in time how many messages its consumers hold"
        return f"its consumers hold {self._unacked} messages that they do not acknowledge"


@dataclass(frozen=True)
class AssumedDrained:
    """The caller asserts that no consumer holds a message for longer than ``settle_s``."""

    settle_s: float

    def is_zero(self, alone_s: float, consumers: int) -> bool:
        return alone_s >= self.settle_s

    def __str__(self) -> str:
        return "messages come to it by another way, faster than they can be moved"


UnackedCounter = ManagementUnacked | AssumedDrained

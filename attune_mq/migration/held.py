"""What consumers hold of a queue: messages that they were given and have not acknowledged.

They are gone with the queue when it is deleted, so a migration waits until there are none. It is
the first of the queue's consumers, so while it has room the others get nothing new. Where there is
a single active consumer that does not help, but nothing comes to the queue any more. Either way
what waits and what is held together only become less. AMQP has no word for how much is held. The
HTTP API has, some seconds late.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from attune_mq.broker.management import ManagementClient

DEFAULT_STATISTICS_AGE_S = 6.0
"""RabbitMQ gathers statistics every five seconds unless its configuration says otherwise."""
ASK_EVERY_S = 0.5


@dataclass
class ByManagement:
    """What the HTTP API says, once it speaks of a time in which nothing was given to others.

    ``statistics_age_s`` says how old it may be. But a busy broker is later, so it also has to count
    the migration's own consumer."""

    client: ManagementClient
    vhost: str
    queue: str
    statistics_age_s: float
    _asked_at: float = field(default=float("-inf"))
    _held: int | None = None

    def are_none(self, alone_s: float, consumers: int) -> bool:
        """``alone_s``: for how long no other consumer was given anything, or nothing waited.
        ``consumers``: how many there are now, the migration's among them."""
        now = time.monotonic()
        if alone_s < self.statistics_age_s or now - self._asked_at < ASK_EVERY_S:
            return False
        self._asked_at = now
        totals = self.client.queue_totals(self.vhost, self.queue)
        is_new = totals is not None and totals.consumers == consumers
        self._held = totals.messages if totals is not None and is_new else None
        return self._held == 0

    def __str__(self) -> str:
        if self._held is None:
            return "the HTTP API did not say in time how many messages its consumers hold"
        return f"its consumers hold {self._held} messages that they do not acknowledge"


@dataclass(frozen=True)
class BySettling:
    """Somebody promised that no consumer holds a message for longer than this."""

    settle_s: float

    def are_none(self, alone_s: float, consumers: int) -> bool:
        return alone_s >= self.settle_s

    def __str__(self) -> str:
        return "messages come to it by another way, faster than they can be moved"


Held = ByManagement | BySettling

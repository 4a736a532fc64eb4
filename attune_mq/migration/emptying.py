"""Emptying a queue: until nothing is left in it or with a consumer, and nothing comes any more.

What is published to an exchange is parked, and what waits in a retry queue is held. What is
published straight to the queue comes. RabbitMQ confirms, and loses, what comes to a queue while it
is being deleted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from attune_mq.broker.inspection import QueueCounts
from attune_mq.message.delivery import Delivery
from attune_mq.migration.held import Held
from attune_mq.migration.intake import Intake
from attune_mq.migration.queue_job import NotMigrated
from attune_mq.migration.retries import HeldRetries

GRACE_S = 0.5
"""For what is on its way inside the broker when its way is changed."""
LULL_S = 30.0
"""For how long to wait for a moment in which nothing is published straight to the queue."""
STRAIGHT = (
    "messages are published straight to it, through the default exchange, and what comes while it "
    "is replaced would be lost: stop what publishes them, and call again"
)
SILENT = "the broker does not say how many messages it holds: its leader does not answer in time"
_GONE = QueueCounts(messages=0, consumers=1)
"""Nothing is left of it, and nobody else consumes it."""


class Emptying:
    """``move``: given what was taken. ``counts``: what the broker says of a queue now. ``held_by``:
    given how many other consumers the queue has, what tells what they hold, and ``None`` where that
    is nothing. ``is_shared``: another consumer may be given messages though we have room, since the
    queue has a single active consumer. ``patience_s``: for how long nothing may become less."""

    def __init__(
        self,
        move: Callable[[Intake, list[Delivery]], None],
        counts: Callable[[str], QueueCounts | None],
        held_by: Callable[[int], Held | None],
        *,
        is_shared: bool,
        patience_s: float,
    ) -> None:
        self._is_shared = is_shared
        self._move = move
        self._counts = counts
        self._held_by = held_by
        self._patience_s = patience_s

    def run(self, intake: Intake, retries: HeldRetries) -> None:
        """Raises :class:`NotMigrated` where it does not end. What becomes less: what waits, whether
        we take it or, with a single active consumer, another does."""
        alone_since = quiet_since = time.monotonic()
        deadline = alone_since + self._patience_s
        least, held, is_known = math.inf, None, False
        while time.monotonic() < deadline:
            taken = intake.take(wait_s=0.1)
            had_room = intake.has_room(taken)  # before it is given more
            self._move(intake, taken)
            now, counts = time.monotonic(), self._look(intake.queue)
            if taken or counts is None:
                quiet_since = now
            if counts is None:
                alone_since, is_known = now, False
                continue
            waiting, consumers = counts
            if waiting < least:
                least, deadline = waiting, now + self._patience_s
            is_alone = had_room and not (waiting and self._is_shared)
            if not is_alone or not is_known or not retries.have_all():
                alone_since, is_known = now, True
                held = self._held_by(consumers - 1)
                continue
            alone_s = now - alone_since
            if alone_s >= GRACE_S and (not held or held.are_none(alone_s, consumers)):
                held = None
                deadline = min(deadline, now + LULL_S)
                if now - quiet_since >= GRACE_S and not waiting:
                    return
        raise NotMigrated((str(held) if held else STRAIGHT) if is_known else SILENT)

    def _look(self, queue: str) -> QueueCounts | None:
        """``None`` where the broker does not tell. We consume the queue, so an answer that counts
        no consumer is none: RabbitMQ gives it where the leader of a quorum queue does not answer
        within 250 ms."""
        counts = self._counts(queue) or _GONE
        return counts if counts.consumers else None

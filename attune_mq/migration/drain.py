"""Draining a queue: until it is empty, its consumers hold nothing, and nothing more comes to it.

What is published to exchanges is parked, and messages of retry queues are held. What is published
straight to the queue still comes. RabbitMQ confirms, and loses, what comes to a queue while it is
being deleted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from attune_mq.broker.inspection import QueueCounts
from attune_mq.message.delivery import Delivery
from attune_mq.migration.queue_reader import QueueReader
from attune_mq.migration.report import NotMigrated
from attune_mq.migration.unacked import UnackedCounter

GRACE_S = 0.5
"""For messages in flight inside the broker when their route changes."""
LULL_S = 30.0
"""How long to wait for a moment in which nothing is published straight to the queue."""
STRAIGHT = (
    "messages are published straight to it, through the default exchange, and what comes while it "
    "is replaced would be lost: stop what publishes them, and call again"
)
SILENT = "the broker does not say how many messages it holds: its leader does not answer in time"
_DELETED = QueueCounts(messages=0, consumers=1)


def drain(
    reader: QueueReader,
    move: Callable[[list[Delivery]], None],
    counts: Callable[[str], QueueCounts | None],
    count_unacked: Callable[[int], UnackedCounter | None],
    retries_are_held: Callable[[], bool],
    *,
    is_shared: bool,
    stall_s: float,
) -> None:
    """Raises :class:`NotMigrated` where it does not end. The ready messages have to decrease,
    whether ours takes them or, with a single active consumer, another does.

    ``move``: takes what was fetched. ``counts``: of a queue, by the broker. ``count_unacked``:
    given how many other consumers there are, counts what they hold, ``None`` where that is not
    needed. ``is_shared``: another consumer may be given messages though ours has room, since the
    queue has a single active consumer. ``stall_s``: how long nothing may decrease."""
    alone_since = quiet_since = time.monotonic()
    deadline = alone_since + stall_s
    least, unacked, is_known = math.inf, None, False
    while time.monotonic() < deadline:
        taken = reader.take(wait_s=0.1)
        had_room = reader.has_room(taken)  # before it is given more
        move(taken)
        now, known = time.monotonic(), _known(counts(reader.queue))
        if taken or known is None:
            quiet_since = now
        if known is None:
            alone_since, is_known = now, False
            continue
        ready, consumers = known
        if ready < least:
            least, deadline = ready, now + stall_s
        is_alone = had_room and not (ready and is_shared)
        if not is_alone or not is_known or not retries_are_held():
            alone_since, is_known = now, True
            unacked = count_unacked(consumers - 1)
            continue
        alone_s = now - alone_since
        if alone_s >= GRACE_S and (not unacked or unacked.is_zero(alone_s, consumers)):
            unacked = None
            deadline = min(deadline, now + LULL_S)
            if now - quiet_since >= GRACE_S and not ready:
                return
    raise NotMigrated((str(unacked) if unacked else STRAIGHT) if is_known else SILENT)


def _known(counts: QueueCounts | None) -> QueueCounts | None:
    """``None`` where they are unknown. We consume the queue, so counts without a consumer
    are wrong: RabbitMQ answers so where the leader of a quorum queue does not answer within
    250 ms."""
    if counts is None:
        return _DELETED
    return counts if counts.consumers else None

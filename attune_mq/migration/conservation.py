"""That no message is missing: what the broker says is in a queue, against what has to be in it."""

from __future__ import annotations

import time
from collections.abc import Callable

from attune_mq.broker.inspection import QueueCounts
from attune_mq.errors import InfrastructureError

AGREES_WITHIN_S = 3.0
"""A deadline for the broker's count, which is behind while a quorum queue elects a leader."""
_ASK_EVERY_S = 0.05


class CountMismatch(InfrastructureError):
    """A queue of a migration does not hold what was put into it: the migration has stopped.

    No temporary queue was deleted, nor the old queue, unless what came to it in its last moment is
    missing; nothing is reported as migrated, by a further call neither.
    ``queue``: which is migrated. ``where``: the queue that was counted. ``expected``: how many
    messages it had to hold, ``None`` where that is not known any more. ``found``: how many it
    holds, ``None`` where it is gone.
    """

    def __init__(
        self, queue: str, where: str, *, expected: int | None, found: int | None, why: str = ""
    ) -> None:
        self.queue, self.where = queue, where
        self.expected, self.found = expected, found
        held = "what was put into it" if expected is None else f"{expected} messages"
        holds = "the queue is gone" if found is None else f"{found}"
        super().__init__(
            f"migration of queue '{queue}' stopped: queue '{where}': expected {held}, found "
            f"{holds}{f' ({why})' if why else ''}. What was set aside is kept. Look for a policy "
            f"or operator policy that applies to it, for what consumed or purged it, and for its "
            f"dead letters. To go on with what is left, and take the rest for lost: `attune-mq "
            f"migrate {queue} --accept-loss`"
        )


def wait_for_count(
    look: Callable[[], QueueCounts | None], agrees: Callable[[QueueCounts], bool]
) -> QueueCounts | None:
    """What the queue holds: as soon as that agrees, or at the end. ``None``: it is not there."""
    deadline = time.monotonic() + AGREES_WITHIN_S
    while True:
        counts = look()
        if counts is None or agrees(counts) or time.monotonic() > deadline:
            return counts
        time.sleep(_ASK_EVERY_S)

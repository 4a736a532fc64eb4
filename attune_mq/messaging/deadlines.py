"""Which handlers take longer than the topology says that they may."""

from __future__ import annotations

import logging
import time

from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.masking import in_a_line

logger = logging.getLogger(__name__)


class Deadlines:
    """Says it once of each; Python cannot end a thread. ``None``: a handler may take any time."""

    def __init__(self, tag: str, deadline_ms: int | None) -> None:
        self._tag = tag
        self._deadline_ms = deadline_ms
        self._begun: dict[int, tuple[float, Delivery]] = {}
        self._overdue: set[int] = set()

    @property
    def overdue(self) -> int:
        """Handlers that are over their deadline and have not returned."""
        return len(self._overdue)

    def begun(self, delivery: Delivery) -> None:
        """From a worker thread: its handler is about to be called."""
        if self._deadline_ms is not None:
            self._begun[delivery.delivery_tag] = (time.monotonic(), delivery)

    def finished(self, delivery: Delivery) -> None:
        """From a worker thread."""
        if self._deadline_ms is not None:
            self._begun.pop(delivery.delivery_tag, None)
            self._overdue.discard(delivery.delivery_tag)

    def look(self) -> None:
        """From the thread of the connection, now and then."""
        if self._deadline_ms is None:
            return
        late_s = time.monotonic() - self._deadline_ms / 1000
        for tag, (begun_at_s, delivery) in list(self._begun.items()):
            if begun_at_s < late_s:
                self._say(tag, delivery)

    def _say(self, tag: int, delivery: Delivery) -> None:
        self._overdue.add(tag)
        if self._begun.pop(tag, None) is None:  # it has just returned
            self._overdue.discard(tag)
            return
        logger.warning(
            "Handler of consumer '%s' is over its deadline of %d ms with message %s",
            self._tag,
            self._deadline_ms,
            in_a_line(delivery.properties.message_id),
        )

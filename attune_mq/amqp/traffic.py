"""Whether bytes move on a connection whose broker does not answer: it is slow then, not dead."""

from __future__ import annotations

import time

from attune_mq.amqp.pika_link import DirectConnection

MUCH_BYTES = 4_096
"""Heartbeats and questions are smaller; that they are sent, taken by a router, or come while nobody
hears us any more, says nothing."""


class Traffic:
    """For whoever turns the loop of the connection."""

    def __init__(self, connection: DirectConnection) -> None:
        self._connection = connection
        self.begin()

    def begin(self) -> None:
        """Counts from now on."""
        self._bytes = self._connection.traffic_bytes
        self.moved_at_s = time.monotonic()

    def look(self) -> float:
        """When much was last found to have moved, on the monotonic clock."""
        found = self._connection.traffic_bytes
        if found - self._bytes >= MUCH_BYTES:
            self._bytes, self.moved_at_s = found, time.monotonic()
        return self.moved_at_s

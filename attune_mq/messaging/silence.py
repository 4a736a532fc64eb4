"""Whether a publisher's connection that owes confirms is dead, or only its queues are slow.

A connection can die without a word in one direction, which the heartbeat notices after a minute or
more; meanwhile every message would fail. So a connection that is silent is asked: it opens a
channel, which the broker does at once, however slow its queues are. A connection that does not
answer that is given up, as a consumer's is (:mod:`pulse`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pika
from pika.channel import Channel

from attune_mq.broker.amqp import abandon
from attune_mq.messaging.pulse import GIVE_UP_AFTER_S

SILENT_AFTER_S = 1.5
"""A broker that owes confirms and sends none for so long is in trouble."""
LOOK_EVERY_S = 1.0


class Silence:
    """All of it on the connection's thread.

    ``silent_since_s``: on the monotonic clock, since when the broker owes something and has said
    nothing; ``None`` while it owes nothing, and while it blocks publishers: then it does not read.
    """

    def __init__(
        self, connection: pika.SelectConnection, silent_since_s: Callable[[], float | None]
    ) -> None:
        self._connection = connection
        self._silent_since_s = silent_since_s
        self._asked_at_s: float | None = None

    def watch(self) -> None:
        """Until the connection ends."""
        self._connection.ioloop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        if not self._connection.is_open:
            return
        now, since_s = time.monotonic(), self._silent_since_s()
        if since_s is None or now - since_s < SILENT_AFTER_S:
            self._asked_at_s = None
        elif self._asked_at_s is None:
            self._asked_at_s = now
            self._connection.channel(on_open_callback=self._on_answer)
        elif now - self._asked_at_s > GIVE_UP_AFTER_S:
            abandon(self._connection, f"the broker did not answer for {GIVE_UP_AFTER_S:g} s")
            return
        self.watch()

    def _on_answer(self, channel: Channel) -> None:
        channel.close()
        self._asked_at_s = None

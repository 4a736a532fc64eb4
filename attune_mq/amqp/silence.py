"""Whether a publisher's connection that owes confirms is dead, or only slow.

A connection can die without a word in one direction, which the heartbeat notices after a minute or
more; meanwhile every message would fail. So a connection that is silent is asked: it opens a
channel, which the broker does at once, however slow its queues are. A connection that does not
answer that is given up, as a consumer's is (:mod:`pulse`).

The question comes after whatever is still on its way. On a slow link that may be one large message,
so bytes that come, or that the peer's side of the wire takes, are signs of life; and since what
they left in buffers between here and the broker is not seen, the answer may take as long again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pika import exceptions as pika_errors
from pika.channel import Channel

from attune_mq.amqp.connecting import abandon
from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.amqp.pulse import GIVE_UP_AFTER_S
from attune_mq.amqp.traffic import Traffic

SILENT_AFTER_S = 1.5
"""A broker that owes confirms and sends none for so long is in trouble."""
LOOK_EVERY_S = 1.0


class Silence:
    """All of it by whoever turns the connection's loop.

    ``silent_since_s``: on the monotonic clock, since when the broker owes something and has said
    nothing; ``None`` while it owes nothing, and while it blocks publishers: then it does not read.
    ``own_channel``: is asked on where the broker allows no second one (``channel_max``).
    """

    def __init__(
        self,
        connection: DirectConnection,
        silent_since_s: Callable[[], float | None],
        own_channel: Callable[[], Channel | None],
    ) -> None:
        self._connection = connection
        self._silent_since_s = silent_since_s
        self._own_channel = own_channel
        self._asked_at_s: float | None = None
        self._traffic = Traffic(connection)

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
            self._traffic.begin()
            self._ask()
        elif self._is_dead(now, self._asked_at_s):
            abandon(self._connection, f"the broker did not answer for {GIVE_UP_AFTER_S:g} s")
            return
        self.watch()

    def _is_dead(self, now: float, asked_at_s: float) -> bool:
        moved_at_s = self._traffic.look()
        return now - moved_at_s > GIVE_UP_AFTER_S + (moved_at_s - asked_at_s)

    def _ask(self) -> None:
        try:
            self._connection.channel(on_open_callback=self._on_channel)
        except pika_errors.NoFreeChannels:
            channel = self._own_channel()
            if channel is not None and channel.is_open:
                channel.basic_qos(callback=lambda _: self._on_answer())

    def _on_channel(self, channel: Channel) -> None:
        channel.close()
        self._on_answer()

    def _on_answer(self) -> None:
        self._asked_at_s = None

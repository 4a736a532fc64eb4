"""Whether the broker of a connection that owes an answer is dead, or only slow.

A connection can die silently in one direction, since a router forgot it, which the heartbeat
notices after a minute or more. So the broker is asked what it answers at once, on a channel of the
same connection: another connection may be well. A connection on which it does not answer is ended.

The question comes after whatever is still on its way. On a slow link that may be one large message,
so bytes that come, or that the peer's side of the wire takes, are signs of life; and since what
they left in buffers between here and the broker is not seen, the answer may take as long again.
"""

from __future__ import annotations

from pika import spec
from pika.amqp_object import Method

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.frames import method_frame
from attune_mq.amqp.protocol import ChannelState, NoFreeChannel, Reply

GIVE_UP_AFTER_S = 15.0
"""A connection on which the broker has not answered for so long is ended."""
MUCH_BYTES = 4_096
"""Heartbeats and questions are smaller; that they are sent, taken by a router, or come while nobody
hears us any more, says nothing."""


class LivenessProbe:
    """By the leader of the connection's loop. ``question``: what is asked; by default one that is
    answered at once, however slow queues are."""

    def __init__(
        self, connection: Connection, now_s: float, question: Method | None = None
    ) -> None:
        self.channel: ChannelState | None = None
        """Its own, once it has asked; ``None`` too where the broker allows no other one."""
        self.answered_at_s = now_s
        self.is_waiting = False
        self._connection = connection
        self._question = question or spec.Basic.Qos(0, 0, False)
        self._asked_at_s = self._moved_at_s = now_s
        self._bytes = 0

    def ask(self, now_s: float, spare: ChannelState | None) -> None:
        """``spare``: on which it is asked where the broker allows no further channel."""
        self._asked_at_s = self._moved_at_s = now_s
        self._bytes = self._connection.loop.traffic_bytes
        channel = self._channel() or spare
        if channel is not None:
            self.is_waiting = True
            frame = method_frame(channel.number, self._question)
            self._connection.loop.send(frame)

    def answer(self, now_s: float) -> Reply | None:
        """What the broker answered on the probe's own channel since it was asked."""
        replies = self.channel.replies if self.channel is not None else ()
        while replies:
            reply = replies.popleft()
            if not isinstance(reply, spec.Channel.OpenOk):
                self.answered(now_s)
                return reply
        return None

    def answered(self, now_s: float) -> None:
        """Or on the spare channel."""
        self.is_waiting = False
        self.answered_at_s = now_s

    def require_answer(self, now_s: float) -> None:
        """Ends the connection where the broker does not answer."""
        if not self.is_waiting:
            return
        moved = self._connection.loop.traffic_bytes
        if moved - self._bytes >= MUCH_BYTES:
            self._bytes, self._moved_at_s = moved, now_s
        patience_s = GIVE_UP_AFTER_S + self._moved_at_s - self._asked_at_s
        if now_s - self._moved_at_s > patience_s:
            self._connection.abandon(f"the broker did not answer for {GIVE_UP_AFTER_S:g} s")

    def _channel(self) -> ChannelState | None:
        if self.channel is None:
            try:
                self.channel = self._connection.open_channel()
            except NoFreeChannel:
                return None
        return self.channel

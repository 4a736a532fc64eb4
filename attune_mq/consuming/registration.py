"""Whether the broker has the consumer registered and answers, on the consumer's own connection.

The question is a passive declaration of the consumer's own queue, on a channel of its own. It is
asked without waiting, so it costs the loop nothing, and answered with how many consumers the broker
counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from pika import spec

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.liveness import LivenessProbe
from attune_mq.amqp.protocol import ChannelState
from attune_mq.errors import ConsumeError

ASK_EVERY_S = 0.5
"""From one question to the next, once the last is answered."""
FORGOTTEN_AFTER = 6
"""So many answers in a row that know of no consumer: the broker has forgotten ours."""


@dataclass(frozen=True)
class LivenessSnapshot:
    """On the monotonic clock: when the I/O loop last ran, and when the broker last answered.
    ``consumers``: how many the broker counts on the queue; ``waiting``: how many messages are ready
    in it. ``None`` where it does not count."""

    turned_at_s: float
    answered_at_s: float
    consumers: int | None
    waiting: int | None


class Registration(LivenessProbe):
    """Made when the consumer is registered, which counts as an answer. ``consumers_channel``: on
    which it is. ``counts``: whether the broker's count of consumers is one; of a stream it is not.
    Called by the leader of the I/O loop, with its lock held, but for :meth:`snapshot`."""

    def __init__(
        self,
        connection: Connection,
        consumers_channel: ChannelState,
        queue: str,
        now_s: float,
        *,
        counts: bool,
    ) -> None:
        question = spec.Queue.Declare(0, queue, True, False, False, False, False, {})
        super().__init__(connection, now_s, question)
        self.due_s = now_s
        """When :meth:`tick` has something to do."""
        self._consumers_channel = consumers_channel
        self._queue = queue
        self._counts = counts
        self._consumers: int | None = None
        self._ready: int | None = None
        self._unknown = 0

    def snapshot(self, turned_at_s: float) -> LivenessSnapshot:
        """From any thread. ``turned_at_s``: when the I/O loop last ran."""
        return LivenessSnapshot(turned_at_s, self.answered_at_s, self._consumers, self._ready)

    def tick(self, now_s: float) -> None:
        """Raises :class:`~attune_mq.errors.ConsumeError` where the broker goes on counting no
        consumer. Where it does not answer at all the connection is ended."""
        self.due_s = now_s + ASK_EVERY_S
        if self.is_waiting:
            self.require_answer(now_s)
        elif self._unknown >= FORGOTTEN_AFTER:
            raise ConsumeError(f"the broker counts no consumer on queue '{self._queue}'")
        else:
            self.ask(now_s, self._consumers_channel)

    def receive(self, now_s: float) -> None:
        """While it waits. Raises :class:`~attune_mq.errors.ConsumeError` where the broker refuses
        to answer, which it does for a queue that is gone."""
        if self.channel is not None and self.channel.closed is not None:
            raise ConsumeError(f"the broker says that queue '{self._queue}' does not exist")
        reply = self.answer(now_s)
        if reply is None and self.channel is None and self._consumers_channel.replies:
            reply = self._consumers_channel.replies.popleft()
            self.answered(now_s)
        if isinstance(reply, spec.Queue.DeclareOk) and self._counts:
            self._consumers = int(reply.consumer_count or 0)
            self._ready = int(reply.message_count or 0)
            self._unknown = 0 if self._consumers else self._unknown + 1

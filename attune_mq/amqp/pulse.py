"""Whether the loop of a consumer turns, and whether its broker answers on the same connection.

The question is a passive declaration of the consumer's own queue, on a channel of its own of the
consumer's own connection: another connection may be well while this one is dead without a word,
since a router forgot it. It is asked without waiting, so it costs the loop nothing, and answered
with how many consumers the broker counts. pika's heartbeat would notice in a minute at best.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.amqp.connecting import abandon, count_queue
from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.amqp.traffic import Traffic
from attune_mq.errors import ConsumeError

ASK_EVERY_S = 0.5
"""From one question to the next, once the last is answered."""
GIVE_UP_AFTER_S = 15.0
"""A connection on which the broker has not answered for so long is given up."""
FORGOTTEN_AFTER = 6
"""So many answers in a row that know of no consumer: the broker has forgotten ours."""


@dataclass(frozen=True)
class Vitals:
    """On the monotonic clock: when the loop last turned, and when the broker last answered.
    ``consumers``: how many the broker counts on the queue; ``waiting``: how many messages are ready
    in it, given to nobody yet. ``None`` where it does not count."""

    turned_at_s: float
    answered_at_s: float
    consumers: int | None
    waiting: int | None


class Pulse:
    """All of it on the connection's thread, but for :attr:`vitals`.

    Made when the consumer is registered, which counts as an answer. ``channel``: the consumer's,
    which is asked on where the broker allows no other one (``channel_max``). ``counts``: whether
    the broker's count of consumers is one; of a stream it is not.
    """

    def __init__(
        self,
        connection: pika.BlockingConnection,
        channel: BlockingChannel,
        queue: str,
        *,
        counts: bool,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._counts = counts
        try:
            self._channel = connection.channel()
        except pika_errors.NoFreeChannels:
            self._channel = channel
        self._traffic = Traffic(DirectConnection.of(connection))
        self._is_waiting = False
        self._ask_at_s = 0.0
        self._consumers: int | None = None
        self._waiting: int | None = None
        self._unknown = 0
        self._turned_at_s = self._answered_at_s = time.monotonic()

    @property
    def vitals(self) -> Vitals:
        """From any thread."""
        return Vitals(self._turned_at_s, self._answered_at_s, self._consumers, self._waiting)

    def turn(self) -> None:
        """At each turn of the loop. Raises :class:`~attune_mq.errors.ConsumeError` where the broker
        refused to answer, which it does for a queue that is gone, and where it goes on counting no
        consumer. One that does not answer at all loses the connection."""
        now = self._turned_at_s = time.monotonic()
        if self._is_waiting:
            self._require_answer(now)
        elif self._unknown >= FORGOTTEN_AFTER:
            raise ConsumeError(f"the broker counts no consumer on queue '{self._queue}'")
        elif now >= self._ask_at_s:
            self._ask_at_s = now + ASK_EVERY_S
            self._ask()

    def _ask(self) -> None:
        self._is_waiting = True
        self._traffic.begin()
        count_queue(self._channel, self._queue, self._on_answer)

    def _require_answer(self, now: float) -> None:
        if not self._channel.is_open:
            raise ConsumeError(f"the broker says that queue '{self._queue}' is not there")
        if now - self._traffic.look() > GIVE_UP_AFTER_S:  # it comes after a large delivery
            abandon(self._connection, f"the broker did not answer for {GIVE_UP_AFTER_S:g} s")

    def _on_answer(self, consumers: int, waiting: int) -> None:
        self._is_waiting = False
        self._answered_at_s = time.monotonic()
        if self._counts:
            self._consumers, self._waiting = consumers, waiting
            self._unknown = 0 if consumers else self._unknown + 1

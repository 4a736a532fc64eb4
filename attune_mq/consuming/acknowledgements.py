"""What the broker gave to one channel and was not told about yet, and telling it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from attune_mq.amqp.frames import ack, nack, reject
from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.errors import ConsumeError
from attune_mq.message.delivery import Delivery

LOOK_AGAIN_S = 0.1


class Unsettled:
    """For the thread that does the connection's work, but for :meth:`wait_until_settled` and what
    only reads. ``can_settle``: the channel is open; otherwise settling raises
    :class:`~attune_mq.errors.ConsumeError`."""

    def __init__(
        self,
        connection: DirectConnection,
        *,
        can_settle: Callable[[], bool],
        takes_back: bool = True,
    ) -> None:
        """``takes_back``: a stream does not. RabbitMQ 3.10 closes the connection for a ``nack`` to
        it, 4.3 takes it for an acknowledgement."""
        self._connection = connection
        self._takes_back = takes_back
        self._can_settle = can_settle
        self._deliveries: dict[int, Delivery] = {}  # in the order of their delivery tags
        self._changed = threading.Condition()
        self._over = False
        self.channel = 0
        """The number of the channel, once it is known."""

    def __len__(self) -> int:
        return len(self._deliveries)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._deliveries[delivery.delivery_tag] = delivery

    def acknowledge(self, done: set[int]) -> None:
        """One acknowledgement for the run of done messages that begins with the oldest unsettled:
        nothing else lies below its end. One each for the others."""
        if not done:
            return
        run: list[int] = []
        for tag in self._deliveries:
            if tag not in done:
                break
            run.append(tag)
        frames = [ack(self.channel, run[-1], multiple=len(run) > 1)] if run else []
        frames += [ack(self.channel, tag) for tag in sorted(done.difference(run))]
        self._send(b"".join(frames), done)

    def give_back(self, delivery: Delivery) -> None:
        frames = nack(self.channel, delivery.delivery_tag) if self._takes_back else b""
        self._send(frames, [delivery.delivery_tag])

    def drop(self, delivery: Delivery) -> None:
        self._send(reject(self.channel, delivery.delivery_tag), [delivery.delivery_tag])

    def wait_until_settled(self, delivery: Delivery) -> None:
        """From any thread: until the operating system has what settles it, or nothing will on this
        channel."""
        tag = delivery.delivery_tag
        with self._changed:
            while not self._over and (tag in self._deliveries or not self._connection.has_sent_all):
                self._changed.wait(LOOK_AGAIN_S)

    def end(self) -> None:
        """Nothing will be settled any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _send(self, frames: bytes, tags: Iterable[int]) -> None:
        if not self._can_settle():
            raise ConsumeError("the broker closed the channel")
        self._connection.send(frames)
        with self._changed:
            for tag in tags:
                del self._deliveries[tag]
            self._changed.notify_all()

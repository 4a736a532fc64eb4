"""Unacked deliveries of one channel, and the frames that settle them, as a value: no lock, thread,
socket or clock."""

from __future__ import annotations

from collections.abc import Iterable

from attune_mq.amqp.frames import ack, nack, reject
from attune_mq.message.delivery import Delivery


class UnackedDeliveries:
    """``can_requeue``: a stream cannot. RabbitMQ 3.10 closes the connection for a ``nack`` to it,
    4.3 takes it for an acknowledgement."""

    def __init__(self, channel: int, *, can_requeue: bool = True) -> None:
        self._channel = channel
        self._can_requeue = can_requeue
        self._deliveries: dict[int, Delivery] = {}  # in the order of their delivery tags

    def __len__(self) -> int:
        return len(self._deliveries)

    def __contains__(self, delivery_tag: int) -> bool:
        return delivery_tag in self._deliveries

    def add(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._deliveries[delivery.delivery_tag] = delivery

    def acknowledge(self, done: set[int]) -> bytes:
        """One acknowledgement for the run of done messages that begins with the oldest unacked one:
        nothing else lies below its end. One each for the others."""
        run: list[int] = []
        for tag in self._deliveries:
            if tag not in done:
                break
            run.append(tag)
        frames = [ack(self._channel, run[-1], multiple=len(run) > 1)] if run else []
        frames += [ack(self._channel, tag) for tag in sorted(done.difference(run))]
        for tag in done:
            del self._deliveries[tag]
        return b"".join(frames)

    def requeue(self, delivery: Delivery) -> bytes:
        del self._deliveries[delivery.delivery_tag]
        return nack(self._channel, delivery.delivery_tag) if self._can_requeue else b""

    def drop(self, delivery: Delivery) -> bytes:
        """``basic.reject`` without ``requeue``."""
        del self._deliveries[delivery.delivery_tag]
        return reject(self._channel, delivery.delivery_tag)

"""Asking the broker about one queue, now."""

from __future__ import annotations

from typing import NamedTuple

from pika import spec

from attune_mq.amqp.channel_methods import Refused
from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import BrokerUnavailable, PermissionRefused
from attune_mq.forking import after_fork

ANSWERED_WITHIN_S = 10.0
"""How long the broker may take over one question, before it is asked on a connection anew."""


class QueueCounts(NamedTuple):
    """Messages that are ready, and consumers."""

    messages: int
    consumers: int


class QueueInspector:
    """How many consumers a queue has, how many messages are ready in it.

    Safe from any thread; one connection, opened when asked, in a fork one of its own.

    Passive declarations, which change nothing. They need no permission up to RabbitMQ 4.0, some
    permission on the queue on 4.3.
    A connection that lay idle for too long, or on which the broker does not answer for
    :data:`ANSWERED_WITHIN_S`, is opened anew.
    """

    def __init__(
        self, broker: BrokerSettings | str | None = None, *, runtime: Runtime = SYSTEM
    ) -> None:
        self._settings = BrokerSettings.of(broker)
        self._runtime = runtime
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._lock = self._runtime.lock()
        self._probe = ProbeChannel(
            self._settings, name="attune_mq inspection", answer_within_s=ANSWERED_WITHIN_S
        )

    def consumer_count(self, queue: str) -> int | None:
        """``None`` when there is no such queue.

        Raises ``BrokerUnavailable`` and its kin, and
        :class:`~attune_mq.errors.PermissionRefused` where the broker does not tell.
        """
        found = self.counts(queue)
        return None if found is None else found.consumers

    def message_count(self, queue: str) -> int | None:
        """Messages that are ready, not those that a consumer has; ``None``: no such queue."""
        found = self.counts(queue)
        return None if found is None else found.messages

    def counts(self, queue: str) -> QueueCounts | None:
        """Both at once; ``None`` when there is no such queue."""
        with self._lock:
            try:
                found = self._ask_or_close(queue)
            except BrokerUnavailable:  # idle, so the broker took us for dead: a fresh one tells
                found = self._ask_or_close(queue)
        if found is None:
            return None
        return QueueCounts(int(found.message_count or 0), int(found.consumer_count or 0))

    def close(self) -> None:
        """The next question opens a connection again."""
        with self._lock:
            self._probe.close()

    def _ask_or_close(self, queue: str) -> spec.Queue.DeclareOk | None:
        """Whatever comes between a question and its answer ends the connection: what is still to
        come would be taken for the answer to the next question."""
        try:
            return self._probe.open_channel().queue_declare(queue, passive=True)
        except Refused as error:
            if error.is_connection:
                self._probe.close()
                raise BrokerUnavailable(f"the broker closed the connection: {error}") from error
            if error.code == 404:
                return None
            raise PermissionRefused(
                f"the broker refuses to tell about queue '{queue}': {error.text}; give the "
                f"user some permission on it, such as read"
            ) from error
        except BaseException:
            self._probe.close()
            raise

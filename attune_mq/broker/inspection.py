"""Asking the broker about one queue, now."""

from __future__ import annotations

import contextlib
import threading
from typing import NamedTuple

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.amqp.connecting import (
    abandon,
    close_quietly,
    expected_refusals,
    open_connection,
    our_errors,
)
from attune_mq.amqp.probe_channel import answering_within
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import PermissionRefused
from attune_mq.forking import after_fork

ANSWERED_WITHIN_S = 10.0
"""How long the broker may take over one question, before it is asked on a connection anew."""


class QueueCounts(NamedTuple):
    """Messages that are ready, and consumers."""

    messages: int
    consumers: int


class QueueInspector:
    """How many consumers a queue has, how many messages wait in it.

    Safe from any thread; one connection, opened when asked, in a fork one of its own.

    Passive declarations, which change nothing. They need no permission up to RabbitMQ 4.0, some
    permission on the queue on 4.3.
    A connection that lay idle for too long, or on which the broker does not answer for
    :data:`ANSWERED_WITHIN_S`, is opened anew.
    """

    def __init__(self, broker: BrokerSettings | str | None = None) -> None:
        self._settings = BrokerSettings.of(broker)
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    def consumer_count(self, queue: str) -> int | None:
        """``None`` when there is no such queue.

        Raises ``BrokerUnavailable`` and its kin, and
        :class:`~attune_mq.errors.PermissionRefused` where the broker does not tell.
        """
        found = self._inspect(queue)
        return None if found is None else found.consumer_count

    def message_count(self, queue: str) -> int | None:
        """Messages that are ready, not those that a consumer has; ``None``: no such queue."""
        found = self._inspect(queue)
        return None if found is None else found.message_count

    def counts(self, queue: str) -> QueueCounts | None:
        """Both at once; ``None`` when there is no such queue."""
        found = self._inspect(queue)
        if found is None:
            return None
        return QueueCounts(int(found.message_count or 0), int(found.consumer_count or 0))

    def close(self) -> None:
        """The next question opens a connection again."""
        with self._lock:
            self._drop()

    def _inspect(self, queue: str) -> pika.spec.Queue.DeclareOk | None:
        with self._lock:
            try:
                return self._ask_or_leave(queue)
            except (pika_errors.AMQPConnectionError, OSError):
                pass  # idle, so the broker took us for dead: a fresh one tells
            with our_errors(self._settings):
                return self._ask_or_leave(queue)

    def _ask_or_leave(self, queue: str) -> pika.spec.Queue.DeclareOk | None:
        """Whatever comes between a question and its answer ends the connection: what is still to
        come would be taken for the answer to the next question."""
        try:
            return self._ask(queue)
        except PermissionRefused:
            raise
        except BaseException:
            connection, self._connection, self._channel = self._connection, None, None
            if connection is not None:
                with contextlib.suppress(Exception):  # whatever state pika was interrupted in
                    abandon(connection, "a question was given up")
                    close_quietly(connection)
            raise

    def _ask(self, queue: str) -> pika.spec.Queue.DeclareOk | None:
        if self._connection is None:
            self._connection = open_connection(self._settings, name="attune_mq inspection")
        try:
            with (
                answering_within(self._connection, ANSWERED_WITHIN_S),
                expected_refusals.expected(),
            ):
                if self._channel is None or not self._channel.is_open:  # the last was refused
                    self._channel = self._connection.channel()
                return self._channel.queue_declare(queue, passive=True).method
        except pika_errors.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return None
            raise PermissionRefused(
                f"the broker refuses to tell about queue '{queue}': {error.reply_text}; give the "
                f"user some permission on it, such as read"
            ) from error

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            close_quietly(connection)

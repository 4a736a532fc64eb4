"""Asking a broker one question after the other, such that a refusal takes none along.

RabbitMQ answers a refusal by closing the channel, on some versions the connection: both are opened
anew for the next question, the connection only where it is our own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.amqp.connecting import abandon, close_quietly, expected_refusals, open_connection
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import BrokerUnavailable

CONNECTION_FORCED = 320
"""The broker ends connections for reasons of its own, and refuses nothing with it."""


class Refusal(NamedTuple):
    """The reply code and text of a ``channel.close`` or ``connection.close``."""

    code: int
    text: str


@contextlib.contextmanager
def answering_within(
    connection: pika.BlockingConnection, timeout_s: float | None
) -> Iterator[None]:
    """Within the block the broker has so long to answer; then the connection is abandoned, and what
    waits for it raises pika's ``AMQPHeartbeatTimeout``. ``None``: as long as the heartbeat lets it,
    twice its interval. Of a question that was abandoned it is not known whether it was done.

    pika's blocking calls have no deadline of their own."""
    if timeout_s is None:
        yield
        return
    beneath: Any = connection
    reason = f"the broker did not answer for {timeout_s:g} s"
    timer = beneath._impl._adapter_call_later(timeout_s, lambda: abandon(connection, reason))
    try:
        yield
    finally:
        beneath._impl._adapter_remove_timeout(timer)


class Asker:
    """``broker``: settings, by which a connection called ``name`` is opened with the first question
    and closed in the end; or an open connection, which stays open. ``answer_within_s``: see
    :func:`answering_within`."""

    def __init__(
        self,
        broker: pika.BlockingConnection | BrokerSettings,
        *,
        name: str,
        answer_within_s: float | None = None,
    ) -> None:
        self._settings = broker if isinstance(broker, BrokerSettings) else None
        self._connection = None if isinstance(broker, BrokerSettings) else broker
        self._name = name
        self._answer_within_s = answer_within_s
        self._channel: BlockingChannel | None = None

    def ask(self, question: Callable[[BlockingChannel], object]) -> Refusal | None:
        """``None`` when the broker agreed. Raises ``BrokerUnavailable`` and its kin, and pika's
        errors for a connection that was lost."""
        connection = self._open_connection()
        try:
            with answering_within(connection, self._answer_within_s), expected_refusals.expected():
                question(self._open_channel(connection))
        except pika_errors.ChannelClosedByBroker as error:
            return Refusal(error.reply_code, error.reply_text)
        except pika_errors.ConnectionClosedByBroker as error:
            if self._settings is None or error.reply_code == CONNECTION_FORCED:
                raise
            self._connection = None  # a type of exchange that RabbitMQ 3.10 does not know: 503
            return Refusal(error.reply_code, error.reply_text)
        return None

    @property
    def version(self) -> str:
        """Of the broker that answered last; ``""`` where it does not say."""
        beneath: Any = self._connection
        told = beneath._impl.server_properties if beneath is not None else {}
        return str((told or {}).get("version", ""))

    def close(self) -> None:
        if self._settings is not None and self._connection is not None:
            close_quietly(self._connection)
        elif self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _open_connection(self) -> pika.BlockingConnection:
        if self._connection is None or not self._connection.is_open:
            if self._settings is None:
                raise BrokerUnavailable("the connection that was given is closed")
            self._connection = open_connection(self._settings, name=self._name)
        return self._connection

    def _open_channel(self, connection: pika.BlockingConnection) -> BlockingChannel:
        if self._channel is None or not self._channel.is_open:
            self._channel = connection.channel()
        return self._channel

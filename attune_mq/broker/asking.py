"""Asking a broker one question after the other, such that a refusal takes none along.

RabbitMQ answers a refusal by closing the channel, on some versions the connection: both are opened
anew for the next question, the connection only where it is our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.broker.amqp import close_quietly, expected_refusals, open_connection
from attune_mq.broker.settings import BrokerSettings
from attune_mq.errors import BrokerUnavailable

CONNECTION_FORCED = 320
"""The broker ends connections for reasons of its own, and refuses nothing with it."""


class Refusal(NamedTuple):
    """The reply code and text of a ``channel.close`` or ``connection.close``."""

    code: int
    text: str


class Asker:
    """``broker``: settings, by which a connection called ``name`` is opened with the first question
    and closed in the end; or an open connection, which stays open."""

    def __init__(self, broker: pika.BlockingConnection | BrokerSettings, *, name: str) -> None:
        self._settings = broker if isinstance(broker, BrokerSettings) else None
        self._connection = None if isinstance(broker, BrokerSettings) else broker
        self._name = name
        self._channel: BlockingChannel | None = None

    def ask(self, question: Callable[[BlockingChannel], object]) -> Refusal | None:
        """``None`` when the broker agreed. Raises ``BrokerUnavailable`` and its kin, and pika's
        errors for a connection that was lost."""
        try:
            channel = self._open_channel()
            with expected_refusals.expected():
                question(channel)
        except pika_errors.ChannelClosedByBroker as error:
            return Refusal(error.reply_code, error.reply_text)
        except pika_errors.ConnectionClosedByBroker as error:
            if self._settings is None or error.reply_code == CONNECTION_FORCED:
                raise
            self._connection = None  # a type of exchange that RabbitMQ 3.10 does not know: 503
            return Refusal(error.reply_code, error.reply_text)
        return None

    def close(self) -> None:
        if self._settings is not None and self._connection is not None:
            close_quietly(self._connection)
        elif self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _open_channel(self) -> BlockingChannel:
        if self._connection is None or not self._connection.is_open:
            if self._settings is None:
                raise BrokerUnavailable("the connection that was given is closed")
            self._connection = open_connection(self._settings, name=self._name)
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
        return self._channel

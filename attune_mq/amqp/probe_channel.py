"""Questions to a broker, such that the refusal of one does not fail those after it.

RabbitMQ answers a refusal by closing the channel, on some versions the connection: both are opened
anew for the next question, the connection only where it is our own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

import pika

from attune_mq.amqp.channel_methods import ChannelMethods, Refused
from attune_mq.amqp.connection import Channel, Connection
from attune_mq.amqp.pika_link import BorrowedChannel
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import BrokerUnavailable


class Refusal(NamedTuple):
    """The reply code and text of a ``channel.close`` or ``connection.close``."""

    code: int
    text: str


class ProbeChannel:
    """``broker``: settings, by which a connection called ``name`` is opened with the first question
    and closed in the end; or an open connection, which stays open. ``answer_within_s``: how long
    the broker may take over one question; ``None``: as long as the heartbeat lets it. For one
    thread at a time; a context manager."""

    def __init__(
        self,
        broker: Connection | pika.BlockingConnection | BrokerSettings,
        *,
        name: str,
        answer_within_s: float | None = None,
    ) -> None:
        self._settings = broker if isinstance(broker, BrokerSettings) else None
        self._connection = None if isinstance(broker, BrokerSettings) else broker
        self._name = name
        self._answer_within_s = answer_within_s
        self._channel: Channel | BorrowedChannel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, question: Callable[[ChannelMethods], object]) -> Refusal | None:
        """``None`` when the broker agreed. Raises ``BrokerUnavailable`` and its kin."""
        try:
            question(self.open_channel())
        except Refused as error:
            if not error.is_connection:
                return Refusal(error.code, error.text)
            if self._settings is None:
                text = f"the broker closed the connection: {error}"
                raise BrokerUnavailable(text) from error
            self.close()  # a type of exchange that RabbitMQ 3.10 does not know: 503
            return Refusal(error.code, error.text)
        return None

    def open_channel(self) -> Channel | BorrowedChannel:
        """The one for the next question. Raises as :meth:`ask`."""
        if self._channel is None or not self._channel.is_open:
            self._channel = self._new_channel()
        return self._channel

    @property
    def version(self) -> str:
        """Of the broker that answered last; ``""`` where it does not say."""
        if isinstance(self._connection, Connection):
            return self._connection.link.version
        return self._channel.version if isinstance(self._channel, BorrowedChannel) else ""

    def close(self) -> None:
        """The next question opens a connection again, where it is our own."""
        channel, self._channel = self._channel, None
        if self._settings is not None and isinstance(self._connection, Connection):
            self._connection.close()
            self._connection = None
        elif channel is not None and channel.is_open:
            channel.close()

    def _new_channel(self) -> Channel | BorrowedChannel:
        if isinstance(self._connection, pika.BlockingConnection):
            return BorrowedChannel(self._connection, self._answer_within_s)
        if self._connection is None or not self._connection.is_open:
            if self._settings is None:
                raise BrokerUnavailable("the connection that was given is closed")
            if self._connection is not None:
                self._connection.close()
            self._connection = Connection.open(self._settings, name=self._name)
        return self._connection.channel(self._answer_within_s)

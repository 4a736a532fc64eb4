"""RabbitMQ's synchronous methods, by their names: one way to ask, whatever connection it is on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pika import spec
from pika.amqp_object import Method

from attune_mq.amqp.channel_state import RawMessage, Reply
from attune_mq.errors import InfrastructureError

M = TypeVar("M", bound=Method)


class Refused(InfrastructureError):
    """The broker closed the channel, or where ``is_connection`` the connection, with this reply
    code and text, for what was asked on it."""

    def __init__(self, code: int, text: str, *, is_connection: bool = False) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.is_connection = is_connection


class ChannelMethods(ABC):
    """A channel on which one question is asked after the other, each of which waits for its answer.

    Each raises :class:`Refused` where the broker closes the channel for it, ``BrokerUnavailable``
    where the connection is lost, and where the broker does not answer in time: then the connection
    is ended, and whether it was done is not known.
    """

    @abstractmethod
    def ask_all(self, methods: Sequence[Method]) -> list[Reply]:
        """All at once, and their answers in order. A refusal of one refuses those after it."""

    @property
    @abstractmethod
    def is_open(self) -> bool: ...

    @abstractmethod
    def close(self) -> None:
        """And waits for the broker's agreement: what it delivered is in its queue again by then."""

    def exchange_declare(
        self,
        exchange: str,
        exchange_type: str = "direct",
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.ask(
            spec.Exchange.Declare(
                0,
                exchange,
                exchange_type,
                passive,
                durable,
                auto_delete,
                internal,
                False,
                dict(arguments or {}),
            )
        )

    def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> None:
        self.ask(spec.Exchange.Delete(0, exchange, if_unused))

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.ask(
            spec.Exchange.Bind(0, destination, source, routing_key, False, dict(arguments or {}))
        )

    def exchange_unbind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.ask(
            spec.Exchange.Unbind(0, destination, source, routing_key, False, dict(arguments or {}))
        )

    def queue_declare(
        self,
        queue: str,
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> spec.Queue.DeclareOk:
        """With the name of the queue, its messages that are ready, and its consumers."""
        return self.ask(
            spec.Queue.Declare(
                0, queue, passive, durable, exclusive, auto_delete, False, dict(arguments or {})
            ),
            spec.Queue.DeclareOk,
        )

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.ask(spec.Queue.Bind(0, queue, exchange, routing_key, False, dict(arguments or {})))

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.ask(spec.Queue.Unbind(0, queue, exchange, routing_key, dict(arguments or {})))

    def queue_delete(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """How many messages went with it."""
        method = spec.Queue.Delete(0, queue, if_unused, if_empty)
        return int(self.ask(method, spec.Queue.DeleteOk).message_count or 0)

    def queue_purge(self, queue: str) -> int:
        """How many messages are gone."""
        return int(self.ask(spec.Queue.Purge(0, queue), spec.Queue.PurgeOk).message_count or 0)

    def basic_qos(self, prefetch_count: int) -> None:
        self.ask(spec.Basic.Qos(0, prefetch_count, False))

    def basic_consume(
        self, queue: str, consumer_tag: str = "", arguments: Mapping[str, Any] | None = None
    ) -> str:
        """The tag. What is delivered is in :meth:`take_events`."""
        method = spec.Basic.Consume(
            0, queue, consumer_tag, False, False, False, False, dict(arguments or {})
        )
        return str(self.ask(method, spec.Basic.ConsumeOk).consumer_tag)

    def basic_cancel(self, consumer_tag: str) -> None:
        self.ask(spec.Basic.Cancel(consumer_tag, False))

    def basic_get(self, queue: str) -> RawMessage | None:
        """``None`` where nothing is ready."""
        (reply,) = self.ask_all([spec.Basic.Get(0, queue, False)])
        return reply if isinstance(reply, RawMessage) else None

    def tx_select(self) -> None:
        self.ask(spec.Tx.Select())

    def tx_commit(self) -> None:
        self.ask(spec.Tx.Commit())

    def ask(self, method: Method, answer: type[M] = Method) -> M:  # type: ignore[assignment]
        (reply,) = self.ask_all([method])
        assert isinstance(reply, answer)
        return reply

"""Handlers by what they take, and handling one delivery up to its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attune_mq.errors import ConsumeError, MalformedMessage, UnknownMessageType
from attune_mq.messaging.delivery import Delivery, Message
from attune_mq.messaging.envelope import Envelope, decode, decode_payload
from attune_mq.messaging.payload_model import Payload, by_message_type
from attune_mq.messaging.settlement import (
    Done,
    Outcome,
    Unhandled,
    Unreadable,
    failure_of,
)

P = TypeVar("P", bound=Payload)
Handler = Callable[[Message[P]], None]


class Handlers:
    """A service's handlers, one for each payload class.

    ::

        handlers = Handlers()

        @handlers.on(EnforcementCreated)
        def note(message: Message[EnforcementCreated]) -> None: ...

    A handler that returns has handled the message, and it is acknowledged. One that raises is
    tried again, see :class:`~attune_mq.errors.RetryLater` and
    :class:`~attune_mq.errors.Reject`. A message can come more than once (its acknowledgement may
    be lost with a connection), so a handler must be able to meet ``message_id`` again.
    """

    def __init__(self) -> None:
        self._handlers: dict[type[Payload], Handler[Any]] = {}
        self._known = by_message_type(())

    def on(self, payload: type[P]) -> Callable[[Handler[P]], Handler[P]]:
        """Registers a handler. Raises :class:`~attune_mq.errors.ConsumeError` for a second one."""

        def register(handler: Handler[P]) -> Handler[P]:
            if payload in self._handlers:
                raise ConsumeError(f"expected one handler for {payload.__name__}, got a second")
            self._handlers[payload] = handler
            self._known = by_message_type(self._handlers)
            return handler

        return register

    @property
    def message_types(self) -> frozenset[str]:
        return frozenset(payload.message_type for payload in self._handlers)

    def handle(self, delivery: Delivery) -> Outcome:
        """Reads and handles one delivery. Raises nothing: whatever happens is an outcome."""
        _, read = self.read(delivery)
        return self.call(read) if isinstance(read, Message) else read

    def read(self, delivery: Delivery) -> tuple[Envelope | None, Message[Any] | Outcome]:
        """What a handler gets, or the outcome where none can; with the envelope, if it is one."""
        envelope = None
        try:
            envelope = decode(delivery.body, fallback=delivery.ids)
            payload = decode_payload(envelope, self._known)
        except MalformedMessage as error:
            return envelope, Unreadable(str(error))
        except UnknownMessageType as error:
            return envelope, Unhandled(error.message_type)
        except Exception as error:  # a payload class of somebody's own has a defect
            return envelope, failure_of(error)
        return envelope, Message(payload, envelope, delivery)

    def call(self, message: Message[Any]) -> Outcome:
        """Calls the handler of a message that was read."""
        try:
            self._handlers[type(message.payload)](message)
        except BaseException as error:  # also SystemExit: a handler cannot end the consumer
            return failure_of(error)
        return Done()

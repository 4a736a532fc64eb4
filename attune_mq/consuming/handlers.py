"""Handlers by what they take, and handling one delivery up to its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from attune_mq.errors import (
    BrokerUnavailable,
    ConsumeError,
    DependencyUnavailable,
    MalformedMessage,
    UnknownMessageType,
)
from attune_mq.message.delivery import Delivery, Message
from attune_mq.message.envelope import Envelope, decode, decode_payload
from attune_mq.message.payload import Payload, by_message_type
from attune_mq.message.settlement import (
    DONE,
    ErrorReport,
    Outcome,
    Unavailable,
    Unhandled,
    Unreadable,
    failure_of,
)
from attune_mq.message.synchronous import check_ran, check_synchronous

logger = logging.getLogger(__name__)

P = TypeVar("P", bound=Payload)
Handler = Callable[[Message[P]], None]
Sign = type[BaseException] | Callable[[BaseException], bool]
"""By which an error is known to say that a dependency is unavailable: its class, or a question."""
Probe = Callable[[], object]


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

    Handlers, probes and signs are plain functions: coroutine and generator functions, whose bodies
    do not run when they are called, are refused with
    :class:`~attune_mq.errors.NotSynchronous`. One that returns an awaitable, a generator or the
    like all the same has not handled the message: it counts as one that raised.
    """

    def __init__(self) -> None:
        self._handlers: dict[type[Payload], Handler[Any]] = {}
        self._known = by_message_type(())
        self._signs: list[tuple[str, Sign]] = [("broker", BrokerUnavailable)]
        self._probes: dict[str, Probe] = {}

    def on(self, payload: type[P]) -> Callable[[Handler[P]], Handler[P]]:
        """Registers a handler. Raises :class:`~attune_mq.errors.ConsumeError` for a second one,
        and :class:`~attune_mq.errors.NotSynchronous` for a coroutine or generator function."""

        def register(handler: Handler[P]) -> Handler[P]:
            check_synchronous(handler, f"handler for {payload.__name__}")
            if payload in self._handlers:
                raise ConsumeError(f"expected one handler for {payload.__name__}, got a second")
            self._known = by_message_type([*self._handlers, payload])
            self._handlers[payload] = handler
            return handler

        return register

    def depends_on(self, name: str, *signs: Sign, probe: Probe | None = None) -> None:
        """An error of ``signs`` says that ``name`` is unavailable, not that the message failed.

        ::

            handlers.depends_on("billing API", requests.ConnectionError, requests.Timeout)

        A sign is a class of errors, or a function that says of an error whether it is one (for a
        database ``attune_mq.transactional.is_transient``). The consumer pauses and tries one
        message now and then, or, where there is one, calls ``probe``, which raises while ``name``
        is unavailable. An error that a bad message can cause is no sign: that message would hold up
        all others for as long as it is there.

        Raises :class:`~attune_mq.errors.NotSynchronous` for a sign or a ``probe`` that is a
        coroutine or generator function. A probe that returns an awaitable or the like has not
        probed: ``name`` counts as away.
        """
        for sign in signs:
            if not (isinstance(sign, type) and issubclass(sign, BaseException)):
                check_synchronous(sign, f"sign of {name}")
        if probe is not None:
            check_synchronous(probe, f"probe of {name}")
        self._signs += [(name, sign) for sign in signs]
        if probe is not None:
            self._probes[name] = probe

    def still_away(self, dependency: str) -> Unavailable | None:
        """By its probe; ``None`` where it is there, or has none."""
        try:
            check_ran(self._probes.get(dependency, _no_probe)(), f"probe of {dependency}")
        except Exception as error:
            return Unavailable(dependency, ErrorReport.of(error))
        return None

    @property
    def message_types(self) -> frozenset[str]:
        """Those that have a handler so far."""
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
        except Exception as error:  # a payload class of the application has a defect
            return envelope, failure_of(error)
        return envelope, Message(payload, envelope, delivery)

    def call(self, message: Message[Any]) -> Outcome:
        """Calls the handler of a message that was read."""
        try:
            returned: object = self._handlers[type(message.payload)](message)
            check_ran(returned, "the handler")
        except BaseException as error:  # also SystemExit: a handler cannot end the consumer
            return self._unavailable(error) or failure_of(error)
        return DONE

    def _unavailable(self, error: BaseException) -> Unavailable | None:
        if isinstance(error, DependencyUnavailable):
            return Unavailable(error.dependency, ErrorReport.of(error))
        for name, sign in self._signs:
            if _is_sign(sign, error):
                return Unavailable(name, ErrorReport.of(error))
        return None


def _is_sign(sign: Sign, error: BaseException) -> bool:
    if isinstance(sign, type):
        return isinstance(error, sign)
    try:
        answer = sign(error)
        check_ran(answer, "the sign")
        return answer
    except Exception:
        logger.exception("depends_on() predicate raised; the error is not taken for an outage")
        return False


def _no_probe() -> None:
    """The handler is the probe."""

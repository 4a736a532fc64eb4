"""What can be listened to: metrics, traces and logs are built upon this, and nothing else is.

A :class:`Telemetry` is given to a ``Consumer``, a ``Publisher`` or a ``Service``, which call its
methods as things happen. Without one nothing is called and no object is made for it: an event costs
one comparison with ``None``.

========================  ===========================  ============================================
event                     on the thread of             when
========================  ===========================  ============================================
``connection_opened``     the connection               a consumer consumes, or a publisher's
                                                       connection is open
``connection_lost``       the connection               it ended without our having closed it
``connection_blocked``    the connection               the broker blocks a publisher (an alarm), or
                                                       does no longer
``delivered``             the consumer's connection    a delivery has come
``processing``            a worker                     all that is done with it begins; a scope
``handling``              a worker                     its handler is about to be called
``handled``               a worker                     its handler is done
``settled``               a worker; the connection     it is decided, its copy, where there is one,
                          for what is given back       is confirmed, and the original may go
``publishing``            who publishes                before a message is sent; may replace it
``published``             who publishes                its outcome is known
========================  ===========================  ============================================

Of one delivery: ``delivered``, then ``processing`` (entered), ``handling`` and ``handled`` (neither
for what is not read, nor handled yet), ``publishing`` and ``published`` of its copy, ``settled``,
and the scope of ``processing`` is left. Where a copy is not confirmed, the scope is left without
``settled``, which comes later, when the copy is. What was not settled when a connection was lost
never is: the broker delivers it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar, cast

from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.envelope import Envelope
from attune_mq.messaging.outgoing import Outcome as PublishOutcome, Outgoing
from attune_mq.messaging.settlement import (
    Acknowledge,
    CountRedelivery,
    DeadLetter,
    Outcome,
    TryAgain,
)

logger = logging.getLogger(__name__)

Scope = AbstractContextManager[object]
Listener = Callable[..., object]
T = TypeVar("T")


@dataclass(frozen=True)
class Dropped:
    """As a dead letter, of a queue that has no dead letter exchange: it is gone."""

    settlement: DeadLetter


@dataclass(frozen=True)
class GivenBack:
    """To its queue, to be delivered again."""

    reason: str


Settled = Acknowledge | TryAgain | CountRedelivery | DeadLetter | Dropped | GivenBack


class Telemetry:
    """Override the events that you listen to; each does nothing here.

    Methods are called from several threads at once, and on the way of every message: they are to
    be quick and must not wait. What one raises is logged, once for each event, and goes no further.

    ``name`` of a connection is a consumer's tag, or ``… publisher``. ``envelope`` is ``None`` where
    the body could not be read, or was not.
    """

    def connection_opened(self, name: str) -> None: ...

    def connection_lost(self, name: str, reason: str) -> None: ...

    def connection_blocked(self, name: str, blocked: bool) -> None: ...

    def delivered(self, delivery: Delivery) -> None: ...

    def processing(self, delivery: Delivery) -> Scope | None:
        """A context in which the delivery is processed on this thread, handler and publishing of
        its copy included, if there is to be one: a tracer makes its span the current one there.
        Nothing is raised through it: what handlers raise is an outcome."""
        return None

    def handling(self, delivery: Delivery, envelope: Envelope) -> None: ...

    def handled(
        self, delivery: Delivery, envelope: Envelope, outcome: Outcome, seconds: float
    ) -> None:
        """``seconds``: in the handler alone."""

    def settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None: ...

    def publishing(self, message: Outgoing) -> Outgoing:
        """The message as it is to be sent: the same, or one with other headers. Called again where
        a copy that was not confirmed is sent again."""
        return message

    def published(self, message: Outgoing, outcome: PublishOutcome, seconds: float) -> None:
        """``message``: as ``publishing`` left it. ``seconds``: that the caller waited, of many
        published together for all of them."""


_EVENTS = tuple(name for name in vars(Telemetry) if not name.startswith("_"))


class Telemetries(Telemetry):
    """Several as one, called in their order. What one raises keeps nothing from the others, nor a
    message from its way."""

    def __init__(self, telemetries: Iterable[Telemetry]) -> None:
        every = tuple(telemetries)
        self._listeners = {event: _listeners(every, event) for event in _EVENTS}
        self._said: set[str] = set()

    def connection_opened(self, name: str) -> None:
        self._tell("connection_opened", name)

    def connection_lost(self, name: str, reason: str) -> None:
        self._tell("connection_lost", name, reason)

    def connection_blocked(self, name: str, blocked: bool) -> None:
        self._tell("connection_blocked", name, blocked)

    def delivered(self, delivery: Delivery) -> None:
        self._tell("delivered", delivery)

    def processing(self, delivery: Delivery) -> Scope | None:
        listeners = self._listeners["processing"]
        if not listeners:
            return None
        return _Scopes([self._answer(one, None, delivery) for one in listeners], self._answer)

    def handling(self, delivery: Delivery, envelope: Envelope) -> None:
        self._tell("handling", delivery, envelope)

    def handled(
        self, delivery: Delivery, envelope: Envelope, outcome: Outcome, seconds: float
    ) -> None:
        self._tell("handled", delivery, envelope, outcome, seconds)

    def settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None:
        self._tell("settled", delivery, envelope, how)

    def publishing(self, message: Outgoing) -> Outgoing:
        for listener in self._listeners["publishing"]:
            message = self._answer(listener, message, message)
        return message

    def published(self, message: Outgoing, outcome: PublishOutcome, seconds: float) -> None:
        self._tell("published", message, outcome, seconds)

    def _tell(self, event: str, *what: object) -> None:
        for listener in self._listeners[event]:
            self._answer(listener, None, *what)

    def _answer(self, listener: Listener, otherwise: T, *what: object) -> T:
        try:
            return cast(T, listener(*what))
        except Exception:
            self._failed(getattr(listener, "__qualname__", repr(listener)))
            return otherwise

    def _failed(self, name: str) -> None:
        """Said once for each: it may fail with every message."""
        if name not in self._said:
            self._said.add(name)
            logger.exception("Telemetry failed in %s; messages go on without it", name)


def guarded(telemetry: Telemetry | None) -> Telemetry | None:
    """As consumers and publishers hold it: one that raises nothing, or ``None``."""
    if telemetry is None or isinstance(telemetry, Telemetries):
        return telemetry
    return Telemetries([telemetry])


def _listeners(telemetries: Iterable[Telemetry], event: str) -> tuple[Listener, ...]:
    """Those that do something: the others are not called."""
    nothing = getattr(Telemetry, event)
    return tuple(
        getattr(one, event) for one in telemetries if getattr(type(one), event) is not nothing
    )


class _Scopes:
    """Several scopes as one that raises nothing."""

    def __init__(self, scopes: Iterable[Scope | None], answer: Callable[..., object]) -> None:
        self._scopes = [scope for scope in scopes if scope is not None]
        self._answer = answer

    def __enter__(self) -> None:
        for scope in self._scopes:
            self._answer(scope.__enter__, None)

    def __exit__(self, *_: object) -> None:
        for scope in reversed(self._scopes):
            self._answer(scope.__exit__, None, None, None, None)

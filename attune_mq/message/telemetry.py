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
``unexpected_confirms``   the connection               the broker confirmed to a publisher what
                                                       nobody waits for; the connection ends
``paused``, ``resumed``   a worker; the connection     a dependency of its handlers is unavailable,
                                                       or is available again
``delivered``             the consumer's connection    a delivery has come
``processing``            a worker                     all that is done with it begins; a scope
``handling``              a worker                     its handler is about to be called
``handled``               a worker                     its handler is done
``settled``               a worker; the connection     it is decided, its copy, where there is one,
                          for what is requeued         is confirmed, and the original may go
``publishing``            who publishes                before a message is sent; may replace it
``published``             who publishes                its outcome is known
========================  ===========================  ============================================

Of one delivery: ``delivered``, then ``processing`` (entered), ``handling`` and ``handled`` (neither
for what is not read, nor handled yet), ``publishing`` and ``published`` of its copy, ``settled``,
and the scope of ``processing`` is left. Where a copy is not confirmed, the scope is left without
``settled``, which comes later, when the copy is. What was not settled when a connection was lost
never is: the broker delivers it again. Nor is one settled that is held while its consumer pauses:
it is processed once more when that goes on. What is of a stream is tried again in its place, and
``settled`` for each attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from attune_mq.message.delivery import Delivery
from attune_mq.message.envelope import Envelope
from attune_mq.message.outgoing import Outcome as PublishOutcome, Outgoing
from attune_mq.message.settlement import (
    Acknowledge,
    DeadLetter,
    Outcome,
    RepublishWithCount,
    TryAgain,
)
from attune_mq.message.synchronous import check_synchronous

logger = logging.getLogger(__name__)

Scope = AbstractContextManager[object]
Listener = Callable[..., Any]


@dataclass(frozen=True)
class Dropped:
    """As a dead letter, of a queue that has no dead letter exchange: it is gone."""

    settlement: DeadLetter


@dataclass(frozen=True)
class Requeued:
    """By ``basic.nack``: the broker delivers it again."""

    reason: str


Settled = Acknowledge | TryAgain | RepublishWithCount | DeadLetter | Dropped | Requeued


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

    def unexpected_confirms(self, name: str, count: int) -> None: ...

    def paused(self, tag: str, dependency: str) -> None: ...

    def resumed(self, tag: str, dependency: str, seconds: float) -> None: ...

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
    message from its way; it is logged, once for each.

    Who is to be called is worked out beforehand, since this is on the way of every message: an
    event to which nobody listens costs a call that does nothing.
    """

    def __init__(self, telemetries: Iterable[Telemetry]) -> None:
        self._said: set[str] = set()
        every = tuple(telemetries)
        for event in _EVENTS:
            setattr(self, event, self._together(event, _listeners(every, event)))

    def _together(self, event: str, listeners: list[Listener]) -> Listener:
        if not listeners:
            return getattr(super(), event)  # type: ignore[no-any-return]
        if event == "processing":
            return partial(_Scopes, listeners, self._say)
        if event == "publishing":
            return partial(self._publish, listeners)
        if len(listeners) == 1:
            return self._guarded(listeners[0])
        return partial(_call_each, [self._guarded(listener) for listener in listeners])

    def _guarded(self, listener: Listener) -> Listener:
        def guarded(*what: object) -> None:
            try:
                listener(*what)
            except Exception:
                self._say(listener)

        return guarded

    def _publish(
        self, listeners: list[Callable[[Outgoing], Outgoing]], message: Outgoing
    ) -> Outgoing:
        for listener in listeners:
            try:
                message = listener(message)
            except Exception:
                self._say(listener)
        return message

    def _say(self, listener: Listener) -> None:
        """Within the handling of what it raised. It may do so with every message."""
        name = getattr(listener, "__qualname__", repr(listener))
        if name not in self._said:
            self._said.add(name)
            logger.exception("telemetry listener %s raised; ignored", name)


def guarded(telemetry: Telemetry | None) -> Telemetry | None:
    """As consumers and publishers hold it: one that raises nothing, or ``None``."""
    if telemetry is None or isinstance(telemetry, Telemetries):
        return telemetry
    return Telemetries([telemetry])


def _listeners(telemetries: Iterable[Telemetry], event: str) -> list[Listener]:
    """Those that do something: the others are not called."""
    nothing = getattr(Telemetry, event)
    found = [one for one in telemetries if getattr(type(one), event) is not nothing]
    for one in found:
        check_synchronous(getattr(one, event), f"{type(one).__name__}.{event}")
    return [getattr(one, event) for one in found]


def _call_each(listeners: Iterable[Listener], *what: object) -> None:
    for listener in listeners:
        listener(*what)


class _Scopes:
    """The scopes of all who want one for this delivery, as one that raises nothing."""

    def __init__(
        self,
        listeners: Iterable[Callable[[Delivery], Scope | None]],
        say: Callable[[Listener], None],
        delivery: Delivery,
    ) -> None:
        self._listeners = listeners
        self._say = say
        self._delivery = delivery
        self._entered: list[Scope] = []

    def __enter__(self) -> None:
        for listener in self._listeners:
            try:
                scope = listener(self._delivery)
                if scope is not None:
                    scope.__enter__()
                    self._entered.append(scope)
            except Exception:
                self._say(listener)

    def __exit__(self, *_: object) -> None:
        while self._entered:
            scope = self._entered.pop()
            try:
                scope.__exit__(None, None, None)
            except Exception:
                self._say(scope.__exit__)

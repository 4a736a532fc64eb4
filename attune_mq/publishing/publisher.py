"""The publisher: a message is in its queue, or the caller knows that it may not be."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import (
    BrokerUnavailable,
    InvalidInput,
    NotConfirmed,
    PublishError,
    PublishManyFailed,
)
from attune_mq.message.envelope import Envelope, encode
from attune_mq.message.outgoing import Identified, Outcome, Outgoing, Receipt, amqp_properties
from attune_mq.message.payload import Payload
from attune_mq.message.telemetry import Telemetry, guarded
from attune_mq.publishing.confirm_connection import ConfirmConnection
from attune_mq.publishing.confirms import MAX_IN_FLIGHT
from attune_mq.topology.model import Route, Topology, UnknownName

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 30.0
OUTBOX_TIMEOUT_S = 10.0
"""For a batch of an outbox, whose lease must be longer: it is tried again anyway."""


class Publisher:
    """Publishes payloads by their type, where the topology says.

    Every message is persistent, confirmed, and mandatory unless the topology says of its type
    that it may find no queue. :meth:`publish` returns once the broker has it in every queue that
    it is routed to, and raises otherwise; it never drops one silently. One connection and one
    thread, opened at the first message; safe to use from any thread, also from many at once, whose
    confirms then share the way. It reconnects by itself, to any of the hosts. The caller
    sends, and reads the confirm, on its own thread.

    An exception that comes from outside during a call (``KeyboardInterrupt``, an alarm, a
    time limit) closes the connection: everything in flight, also of other threads, is
    :class:`~attune_mq.errors.NotConfirmed` with ``sent=True``, and the next call connects anew. A
    signal handler that publishes during a call of its own thread gets ``NotConfirmed``
    with ``sent=False`` at once. In a fork it opens a connection of its own, and touches nothing of
    its parent's; what the parent had in flight stays the parent's.

    If the power fails before :meth:`publish` returns, the message may or may not be in its queues:
    who must not lose it keeps it until then (an outbox). After that it could be lost only where
    the broker loses what it confirmed: a queue that is not durable, or one on a single node whose
    disk is lost; and where ``mandatory: false`` says that it may find no queue.

    ``source_service`` is the name that stands in each envelope. ``timeout_s`` is the deadline for
    a confirm, connecting included, which holds also while the broker blocks the connection.
    ``telemetry`` is notified of all that happens.

    Sources: https://www.rabbitmq.com/docs/confirms, https://www.rabbitmq.com/docs/alarms.
    """

    def __init__(
        self,
        topology: Topology,
        broker: BrokerSettings | str | None = None,
        *,
        source_service: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        telemetry: Telemetry | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._topology = topology
        self._runtime = runtime
        self._source_service = source_service
        self._timeout_s = timeout_s
        name = f"{source_service or 'attune_mq'} publisher"
        self._telemetry = guarded(telemetry)
        self._connection = ConfirmConnection(
            BrokerSettings.of(broker), name=name, telemetry=self._telemetry, runtime=runtime
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def publish(
        self,
        message: Payload | Envelope,
        *,
        route: Route | None = None,
        correlation_id: str | None = None,
        trace_id: str | None = None,
        message_id: str | None = None,
        headers: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Receipt:
        """Publishes one message and waits for its confirm.

        ``message``: a payload, which gets an envelope of its own with the ids that are given, or
        an envelope, which is sent as it is, with its own (:class:`~attune_mq.errors.InvalidInput`
        where ids are given beside it).
        ``route``: where to, if not where the topology sends the type; such as the route of one
        instance of a family. ``headers``: AMQP headers, of 131,008 bytes with all properties.

        To publish again what was not confirmed, publish the same envelope again: its
        ``message_id`` tells consumers that it is the same message::

            message = Envelope.of(payload, source_service="billing")
            while True:
                try:
                    return publisher.publish(message)
                except NotConfirmed:
                    time.sleep(pause_s)

        A payload that is published again is a new message, with a new id, unless it is given
        ``message_id=error.message_id``, the id in the error. With :meth:`publish_many`, give
        envelopes.

        Raises :class:`~attune_mq.errors.PublishError` by its kinds:
        :class:`~attune_mq.errors.Unroutable`; :class:`~attune_mq.errors.PublishRefused`, also for
        headers that AMQP cannot carry, such as a ``float``; and
        :class:`~attune_mq.errors.NotConfirmed`: after the deadline, when the connection is lost,
        when another message on its way made the broker close the channel (``sent`` is ``True`` in
        all three: it may be in its queues), or at once where no host lets us in.
        :class:`~attune_mq.topology.model.UnknownName` for a type without a route and
        :class:`~attune_mq.errors.MalformedMessage` for one that cannot be written, or that its own
        class would not read back equal: nothing was sent.

        One thing the broker does not tell: when an exchange is deleted while many messages to it
        are on their way, all of them count as refused, though the first may have been taken.
        """
        envelope = self._enveloped(message, correlation_id, trace_id, message_id)
        outgoing = self.outgoing(envelope, route=route, headers=headers)
        outcome = self.send([outgoing], timeout_s=timeout_s)[0]
        if isinstance(outcome, PublishError):
            raise outcome
        return outcome

    def publish_many(
        self,
        messages: Iterable[Payload | Envelope],
        *,
        route: Route | None = None,
        timeout_s: float | None = None,
    ) -> list[Receipt]:
        """Publishes many with their confirms in flight together, in order, and waits for all.

        ``timeout_s`` is for each thousand of them. All are in memory until the last is confirmed.
        One that is not confirmed does not keep those after it: they are published all the same.
        Raises :class:`~attune_mq.errors.PublishManyFailed`, which tells of each message that is
        not confirmed; all others are. What :meth:`publish` raises before anything is sent is
        raised here before any of them is sent.
        """
        outgoing = [self.outgoing(self._enveloped(message), route=route) for message in messages]
        per_thousand_s = self._timeout_s if timeout_s is None else timeout_s
        outcomes = self.send(
            outgoing, timeout_s=per_thousand_s * (1 + len(outgoing) // MAX_IN_FLIGHT)
        )
        failures = {i: one for i, one in enumerate(outcomes) if isinstance(one, PublishError)}
        if failures:
            raise PublishManyFailed(failures, total=len(outgoing))
        return [one for one in outcomes if isinstance(one, Receipt)]

    def publish_envelopes(self, items: Sequence[_Addressed]) -> list[PublishError | None]:
        """For an outbox: one outcome a message, in order; ``None`` means confirmed.

        Raises :class:`~attune_mq.errors.BrokerUnavailable` where none could be sent.
        """
        addressed = [self._readdressed(item) for item in items]
        complete = [one for one in addressed if isinstance(one, Outgoing)]
        sent = iter(self.send(complete, timeout_s=min(self._timeout_s, OUTBOX_TIMEOUT_S)))
        outcomes = [next(sent) if isinstance(one, Outgoing) else one for one in addressed]
        errors = [one if isinstance(one, PublishError) else None for one in outcomes]
        if errors and all(isinstance(one, NotConfirmed) and not one.sent for one in errors):
            raise BrokerUnavailable(str(errors[0])) from errors[0]
        return errors

    def send(
        self, messages: Sequence[Outgoing], *, timeout_s: float | None = None
    ) -> list[Outcome]:
        """What the others are built on: publishes complete messages, and raises nothing. One
        outcome for each, in order, when the last is known or the deadline is over."""
        if not messages:
            return []
        deadline_s = self._timeout_s if timeout_s is None else timeout_s
        telemetry = self._telemetry
        if telemetry is None:
            return self._connection.exchange(messages, deadline_s)
        messages = [telemetry.publishing(message) for message in messages]
        began_at = self._runtime.monotonic()
        outcomes = self._connection.exchange(messages, deadline_s)
        seconds = self._runtime.monotonic() - began_at
        for message, outcome in zip(messages, outcomes, strict=True):
            telemetry.published(message, outcome, seconds)
        return outcomes

    def outgoing(
        self,
        envelope: Envelope,
        *,
        route: Route | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Outgoing:
        """An envelope with its address and properties, as it would be sent."""
        address = route or self._topology.route(envelope.message_type)
        properties = amqp_properties(envelope)
        if headers:
            properties.headers = dict(headers)
        body = encode(envelope)
        return Outgoing(
            address.exchange,
            address.routing_key,
            body,
            properties,
            envelope.message_type,
            address.mandatory,
        )

    @property
    def trouble(self) -> str | None:
        """Why nothing is being confirmed just now, or ``None``. For readiness."""
        return self._connection.trouble

    @property
    def unconfirmed_count(self) -> int:
        """Messages that are waiting to be sent or for their confirm."""
        return self._connection.unconfirmed_count

    @property
    def connections(self) -> int:
        """How many connections it has opened so far: more than one means that some were lost."""
        return self._connection.reconnecting.opened

    @property
    def unexpected_confirms(self) -> int:
        """How many confirms came of messages that it had not sent on that connection. Each ends the
        connection, since further ones might be given to the wrong message. It should be 0."""
        return self._connection.unexpected_confirms

    def close(self, timeout_s: float = 5.0) -> None:
        """Closes the connection, for good. Callers that still wait get :class:`NotConfirmed`, as
        do those that come later, with ``sent=False``: make a new publisher. Again: does nothing."""
        self._connection.close(timeout_s)

    def _enveloped(
        self,
        message: Payload | Envelope,
        correlation_id: str | None = None,
        trace_id: str | None = None,
        message_id: str | None = None,
    ) -> Envelope:
        if isinstance(message, Envelope):
            if (correlation_id, trace_id, message_id) != (None, None, None):
                raise InvalidInput("publish: expected no ids beside an envelope, which has its own")
            return message
        return Envelope.of(
            message,
            source_service=self._source_service,
            correlation_id=correlation_id,
            trace_id=trace_id,
            message_id=message_id,
            now=self._runtime.now(),
        )

    def _readdressed(self, item: _Addressed) -> Outgoing | PublishError:
        if item.exchange is None or item.routing_key is None:
            try:
                route = self._topology.route(item.message_type)
            except UnknownName as error:
                return PublishError(f"{item.message_type} {item.message_id}: not sent: {error}")
        else:
            route = Route(item.exchange, item.routing_key)
        properties = amqp_properties(item)
        if item.headers:
            properties.headers = dict(item.headers)
        return Outgoing(
            route.exchange,
            route.routing_key,
            item.body,
            properties,
            item.message_type,
            route.mandatory,
        )


class _Addressed(Identified, Protocol):
    """A message of an outbox; see ``attune_mq.transactional.OutboundMessage``."""

    @property
    def message_type(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def exchange(self) -> str | None: ...
    @property
    def routing_key(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, str] | None: ...

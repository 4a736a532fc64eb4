"""From a delivery to what is done with its original: handle, decide, publish the copy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.consuming.handlers import Handlers
from attune_mq.consuming.pausing import Pause
from attune_mq.consuming.status import Progress
from attune_mq.errors import PublishError
from attune_mq.message import log_context
from attune_mq.message.delivery import Delivery, Message
from attune_mq.message.envelope import Envelope
from attune_mq.message.log_context import Handling
from attune_mq.message.masking import in_a_line
from attune_mq.message.outgoing import Outgoing
from attune_mq.message.republishing import (
    dead_letter_copy,
    republish_with_delivery_count,
    retry_copy,
)
from attune_mq.message.settlement import (
    Acknowledge,
    DeadLetter,
    Hold,
    Outcome,
    RepublishWithCount,
    RetryPolicy,
    Settlement,
    TryAgain,
    Unavailable,
    decide,
    decide_before_handling,
)
from attune_mq.message.stream_positions import StreamDelivery
from attune_mq.message.telemetry import Dropped, Requeued, Settled, Telemetry
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.model import ExpandedTopology
from attune_mq.topology.objects import DeadLetterTo

logger = logging.getLogger(__name__)


class Action(Enum):
    """What happens to the original, on the channel that it came on."""

    ACKNOWLEDGE = "ack"
    REQUEUE = "nack with requeue"
    DROP = "reject, without a dead letter exchange"
    HOLD = "nothing yet: it was not begun, since the consumer pauses"


@dataclass(frozen=True)
class Replacement:
    """A copy that is to be in a queue before the original may go, which is then settled so."""

    copy: Outgoing
    settlement: TryAgain | RepublishWithCount | DeadLetter
    envelope: Envelope | None = None


Result = Action | Hold | Replacement | TryAgain
"""``TryAgain``: of a stream, to which no copy is published: all who read it would get that."""


def republish_to_tail(delivery: Delivery) -> Replacement:
    """A fresh copy of one that was held for long, at the tail of its queue; nothing is counted."""
    settlement = RepublishWithCount(delivery.redeliveries)
    return _instead(republish_with_delivery_count(delivery, settlement), settlement, None)


def settlement_of(
    delivery: Delivery, handlers: Handlers, policy: RetryPolicy, runtime: Runtime = SYSTEM
) -> Settlement:
    """What becomes of one delivery. It calls the handler, and has no other effect."""
    early = _settlement_before_handling(delivery, policy, runtime)
    return early or decide(handlers.handle(delivery), delivery.failures, policy)


def _settlement_before_handling(
    delivery: Delivery, policy: RetryPolicy, runtime: Runtime
) -> Settlement | None:
    if delivery.is_fresh:
        return None
    if not delivery.is_due(runtime.monotonic(), runtime.now().timestamp()):
        # Nobody holds a message for as long as was asked for at a time.
        return RepublishWithCount(delivery.redeliveries)
    return decide_before_handling(
        delivery.redeliveries,
        delivery.failures,
        policy,
        counted=delivery.is_counted,
    )


class Processor:
    """Runs on worker threads."""

    def __init__(
        self,
        topology: ExpandedTopology,
        spec: ConsumerSpec,
        handlers: Handlers,
        publisher: Publisher,
        progress: Progress,
        pause: Pause,
        telemetry: Telemetry | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        queue = topology.queues[spec.queue]
        rule = queue.dead_letter
        self._dead_letter_to = (
            rule.model_copy(update={"to": topology.exchange_name(rule.to)})
            if isinstance(rule, DeadLetterTo)
            else None
        )
        self._policy = RetryPolicy.of(queue)
        self._handlers = handlers
        self._publisher = publisher
        self.progress = progress
        self.pause = pause
        self._telemetry = telemetry
        self._runtime = runtime

    def process(
        self,
        delivery: Delivery,
        *,
        still_ours: Callable[[], bool] = lambda: True,
        is_trial: bool = False,
    ) -> Result:
        """What is to be done with the original, or the copy without which nothing may be.

        Blocks while the handler runs, and while a copy waits for its confirm. ``still_ours``: asked
        just before a copy is published, whether the original can still be settled; otherwise the
        broker has delivered it to another consumer, which publishes the copy. ``is_trial``: whether
        a pause is over depends on what comes of handling it.
        """
        current = Handling(delivery)
        token = log_context.current.set(current)
        try:
            scope = None if self._telemetry is None else self._telemetry.processing(delivery)
            if scope is None:
                return self._process(current, still_ours, is_trial)
            with scope:
                return self._process(current, still_ours, is_trial)
        finally:
            log_context.current.reset(token)

    def replace(self, delivery: Delivery, replacement: Replacement) -> Action | Replacement:
        """Publishes the copy: the original may go once it is confirmed in a queue. Otherwise it
        stays with us, and so does what was decided: the handler has had its turn."""
        outcome = self._publisher.send([replacement.copy])[0]
        if isinstance(outcome, PublishError):
            logger.error(
                "Republish failed; message %s stays unacknowledged and will be retried: %s",
                in_a_line(delivery.properties.message_id),
                outcome,
            )
            return replacement
        self._settled(delivery, replacement.envelope, replacement.settlement)
        return Action.ACKNOWLEDGE

    def _process(self, current: Handling, still_ours: Callable[[], bool], is_trial: bool) -> Result:
        delivery, envelope = current.delivery, None
        settlement = _settlement_before_handling(delivery, self._policy, self._runtime)
        if settlement is None:
            envelope, read = self._handlers.read(delivery)
            current.envelope = envelope
            outcome = self._outcome_of(read, is_trial) if isinstance(read, Message) else read
            settlement = decide(outcome, delivery.failures, self._policy)
        match self._effect(delivery, envelope, settlement):
            case Action() | Hold() | TryAgain() as effect:
                return effect
            case Replacement() as replacement if still_ours():
                return self.replace(delivery, replacement)
            case Replacement():
                return Action.REQUEUE

    def _outcome_of(self, message: Message[Any], is_trial: bool) -> Outcome:
        """With what it says of what the handler needs."""
        cause = self.pause.cause if is_trial else None
        outcome: Outcome | None = None
        if cause is not None:
            outcome = self._handlers.still_away(cause.dependency)
        if outcome is None:
            outcome = self._handle(message)
        if isinstance(outcome, Unavailable):
            self.pause.begin(outcome)
        elif is_trial:
            self.pause.end()
        return outcome

    def _handle(self, message: Message[Any]) -> Outcome:
        telemetry = self._telemetry
        if telemetry is None:
            return self._handlers.call(message)
        telemetry.handling(message.delivery, message.envelope)
        began_at = self._runtime.monotonic()
        outcome = self._handlers.call(message)
        seconds = self._runtime.monotonic() - began_at
        telemetry.handled(message.delivery, message.envelope, outcome, seconds)
        return outcome

    def _effect(
        self, delivery: Delivery, envelope: Envelope | None, settlement: Settlement
    ) -> Result:
        match settlement:
            case Acknowledge():
                self._settled(delivery, envelope, settlement)
                return Action.ACKNOWLEDGE
            case TryAgain(failures, error):
                logger.warning(
                    "Message %s on queue '%s' failed in attempt %d, tried again: %s: %s",
                    in_a_line(delivery.properties.message_id),
                    delivery.queue,
                    failures,
                    error.type,
                    in_a_line(error.text),
                )
                if isinstance(delivery, StreamDelivery):
                    self._settled(delivery, envelope, settlement)
                    return settlement
                return _instead(
                    retry_copy(delivery, settlement, self._runtime.now), settlement, envelope
                )
            case RepublishWithCount():
                return _instead(
                    republish_with_delivery_count(delivery, settlement), settlement, envelope
                )
            case Hold():
                return settlement
            case DeadLetter():
                return self._give_up(delivery, envelope, settlement)

    def _give_up(
        self, delivery: Delivery, envelope: Envelope | None, settlement: DeadLetter
    ) -> Action | Replacement:
        logger.error(
            "Message %s on queue '%s' is given up after %d attempts (%s): %s: %s"
            if isinstance(delivery, StreamDelivery)
            else "Message %s on queue '%s' is dead-lettered after %d attempts (%s): %s: %s",
            in_a_line(delivery.properties.message_id),
            delivery.queue,
            settlement.attempts,
            settlement.reason,
            settlement.error.type,
            in_a_line(settlement.error.text),
        )
        if self._dead_letter_to is not None:
            copy = dead_letter_copy(delivery, settlement, self._dead_letter_to, self._runtime.now)
            return _instead(copy, settlement, envelope)
        if isinstance(delivery, StreamDelivery):
            logger.error(
                "Message %s is passed over: stream '%s', which has no dead letters, keeps it at %d",
                in_a_line(delivery.properties.message_id),
                delivery.queue,
                delivery.position.offset,
            )
        else:
            logger.error(
                "Message %s is dropped: queue '%s' has no dead letter exchange",
                in_a_line(delivery.properties.message_id),
                delivery.queue,
            )
        self._settled(delivery, envelope, Dropped(settlement))
        return Action.DROP

    def _settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None:
        """All that is left is to tell the broker."""
        match how:
            case Acknowledge():
                self.progress.count("handled")
            case TryAgain():
                self.progress.count("retried")
            case DeadLetter() | Dropped():
                self.progress.count("dead_lettered")
            case RepublishWithCount() | Requeued():
                pass
        if self._telemetry is not None:
            self._telemetry.settled(delivery, envelope, how)


def _instead(
    copy: Outgoing,
    settlement: TryAgain | RepublishWithCount | DeadLetter,
    envelope: Envelope | None,
) -> Replacement:
    if envelope is not None:
        copy = copy._replace(message_type=envelope.message_type)
    return Replacement(copy, settlement, envelope)

"""From a delivery to what is done with its original: handle, decide, publish the copy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from attune_mq.errors import PublishError
from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.handlers import Handlers
from attune_mq.messaging.outgoing import Outgoing
from attune_mq.messaging.publisher import Publisher
from attune_mq.messaging.republishing import counted_copy, dead_letter_copy, retry_copy
from attune_mq.messaging.settlement import (
    Acknowledge,
    CountRedelivery,
    DeadLetter,
    RetryPolicy,
    Settlement,
    TryAgain,
    decide,
    decide_before_handling,
)
from attune_mq.messaging.status import Counter, Progress
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.model import Topology
from attune_mq.topology.objects import DeadLetterTo

logger = logging.getLogger(__name__)


class Action(Enum):
    """What happens to the original, on the channel that it came on."""

    ACKNOWLEDGE = "ack"
    GIVE_BACK = "nack, to be delivered again"
    DROP = "reject, without a dead letter exchange"


@dataclass(frozen=True)
class Replacement:
    """A copy that is to be in a queue before the original may go; ``counts_as`` in the status."""

    copy: Outgoing
    counts_as: Counter | None = None


def settlement_of(delivery: Delivery, handlers: Handlers, policy: RetryPolicy) -> Settlement:
    """What becomes of one delivery. It calls the handler, and has no other effect."""
    if not delivery.is_due:  # nobody holds a message for as long as was asked for at a time
        return CountRedelivery(delivery.redeliveries)
    early = decide_before_handling(
        delivery.redeliveries,
        delivery.failures,
        policy,
        counted=delivery.counted_by_broker or not delivery.redelivered,
    )
    return early or decide(handlers.handle(delivery), delivery.failures, policy)


class Processor:
    """Runs on worker threads. ``topology`` is expanded."""

    def __init__(
        self,
        topology: Topology,
        spec: ConsumerSpec,
        handlers: Handlers,
        publisher: Publisher,
        progress: Progress,
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
        self._progress = progress

    def process(
        self, delivery: Delivery, *, still_ours: Callable[[], bool] = lambda: True
    ) -> Action | Replacement:
        """What is to be done with the original, or the copy without which nothing may be.

        Blocks while the handler runs, and while a copy waits for its confirm. ``still_ours``: the
        original can still be settled; otherwise the broker has given it to somebody else, who
        publishes the copy.
        """
        settlement = settlement_of(delivery, self._handlers, self._policy)
        match self._effect(delivery, settlement):
            case Replacement() as replacement if still_ours():
                return self.replace(replacement)
            case Replacement():
                return Action.GIVE_BACK
            case Action() as action:
                return action

    def replace(self, replacement: Replacement) -> Action | Replacement:
        """Publishes the copy: the original may go once it is confirmed in a queue. Otherwise it
        stays with us, and so does what was decided: the handler has had its turn."""
        outcome = self._publisher.send([replacement.copy])[0]
        if isinstance(outcome, PublishError):
            logger.error("The original of a copy stays in its queue: %s", outcome)
            return replacement
        if replacement.counts_as is not None:
            self._progress.count(replacement.counts_as)
        return Action.ACKNOWLEDGE

    def _effect(self, delivery: Delivery, settlement: Settlement) -> Action | Replacement:
        match settlement:
            case Acknowledge():
                self._progress.count("handled")
                return Action.ACKNOWLEDGE
            case TryAgain(failures, error):
                logger.warning(
                    "Message %s on queue '%s' failed in attempt %d, tried again: %s: %s",
                    delivery.properties.message_id,
                    delivery.queue,
                    failures,
                    error.type,
                    error.text,
                )
                return Replacement(retry_copy(delivery, settlement), "retried")
            case CountRedelivery():
                return Replacement(counted_copy(delivery, settlement))
            case DeadLetter():
                return self._give_up(delivery, settlement)

    def _give_up(self, delivery: Delivery, settlement: DeadLetter) -> Action | Replacement:
        logger.error(
            "Message %s on queue '%s' is dead-lettered after %d attempts (%s): %s: %s",
            delivery.properties.message_id,
            delivery.queue,
            settlement.attempts,
            settlement.reason,
            settlement.error.type,
            settlement.error.text,
        )
        if self._dead_letter_to is not None:
            copy = dead_letter_copy(delivery, settlement, self._dead_letter_to)
            return Replacement(copy, "dead_lettered")
        logger.error(
            "Message %s is dropped: queue '%s' has no dead letter exchange",
            delivery.properties.message_id,
            delivery.queue,
        )
        self._progress.count("dead_lettered")
        return Action.DROP

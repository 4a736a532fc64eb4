"""From a delivery to what is done with its original: handle, decide, publish the copy."""

from __future__ import annotations

import logging
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
)
from attune_mq.messaging.status import Progress
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.model import Topology
from attune_mq.topology.objects import DeadLetterTo

logger = logging.getLogger(__name__)


class Action(Enum):
    """What happens to the original, on the channel that it came on."""

    ACKNOWLEDGE = "ack"
    GIVE_BACK = "nack, to be delivered again"
    DROP = "reject, without a dead letter exchange"


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
        self._policy = RetryPolicy.of(queue.retry)
        self._handlers = handlers
        self._publisher = publisher
        self._progress = progress

    def process(self, delivery: Delivery) -> Action:
        """Blocks while the handler runs, and while a copy waits for its confirm."""
        outcome = self._handlers.handle(delivery)
        settlement = decide(outcome, delivery.failures, self._policy)
        return self._settle(delivery, settlement)

    def _settle(self, delivery: Delivery, settlement: Settlement) -> Action:
        match settlement:
            case Acknowledge():
                self._progress.count("handled")
                return Action.ACKNOWLEDGE
            case TryAgain(failures, error):
                self._progress.count("retried")
                logger.warning(
                    "Message %s on queue '%s' failed in attempt %d, tried again: %s: %s",
                    delivery.properties.message_id,
                    delivery.queue,
                    failures,
                    error.type,
                    error.text,
                )
                return self._replace(delivery, retry_copy(delivery, settlement))
            case CountRedelivery():
                return self._replace(delivery, counted_copy(delivery, settlement))
            case DeadLetter():
                return self._dead_letter(delivery, settlement)

    def _dead_letter(self, delivery: Delivery, settlement: DeadLetter) -> Action:
        self._progress.count("dead_lettered")
        logger.error(
            "Message %s on queue '%s' is dead-lettered after %d attempts (%s): %s: %s",
            delivery.properties.message_id,
            delivery.queue,
            settlement.attempts,
            settlement.reason,
            settlement.error.type,
            settlement.error.text,
        )
        if self._dead_letter_to is None:
            logger.error(
                "Message %s is dropped: queue '%s' has no dead letter exchange",
                delivery.properties.message_id,
                delivery.queue,
            )
            return Action.DROP
        return self._replace(delivery, dead_letter_copy(delivery, settlement, self._dead_letter_to))

    def _replace(self, delivery: Delivery, copy: Outgoing) -> Action:
        """The original goes once its copy is confirmed in a queue, and stays otherwise."""
        outcome = self._publisher.send([copy])[0]
        if isinstance(outcome, PublishError):
            logger.error("The original of a copy goes back to its queue: %s", outcome)
            return Action.GIVE_BACK
        return Action.ACKNOWLEDGE

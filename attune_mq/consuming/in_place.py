"""Handling messages of a stream, on worker threads: where one stands, it is tried again.

A stream takes nothing back, and a copy at its end would be one more message for all of its readers.
So a message that fails is kept by its worker for the delay, and handled again; with one worker, all
that follows in the stream waits, and the order is kept. An unavailable dependency of a handler is
waited for in the same way. After its last attempt a message is passed over, with an error in the
log that names its offset: the stream still has it.
"""

from __future__ import annotations

import logging
import threading

from attune_mq.amqp.runtime import Runtime
from attune_mq.consuming.channel_session import RETRY_S
from attune_mq.consuming.processing import Action, Processor, Replacement, Result
from attune_mq.consuming.stream_reading import StreamReading
from attune_mq.consuming.subscription import Subscription
from attune_mq.message.settlement import Hold, TryAgain
from attune_mq.message.stream_positions import StreamDelivery

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.2


class InPlace:
    """``stopping``: set when the consumer is to stop. One for all connections of a consumer."""

    def __init__(
        self,
        reading: StreamReading,
        processor: Processor,
        stopping: threading.Event,
        runtime: Runtime,
    ) -> None:
        self._reading = reading
        self._processor = processor
        self._deadlines = processor.progress.deadlines
        self._stopping = stopping
        self._runtime = runtime

    def handle(self, session: Subscription, delivery: StreamDelivery) -> Action:
        """Returns when it is done, or when the consumer stops or the connection is lost: then the
        stream delivers it again, to the consumer that reads on from the position."""
        replacement: Replacement | None = None
        while session.can_settle and not self._stopping.is_set():
            if self._reading.is_done(delivery):
                return Action.ACKNOWLEDGE
            match self._attempt(session, delivery, replacement):
                case Action.ACKNOWLEDGE | Action.DROP:
                    self._reading.done(delivery)
                    return Action.ACKNOWLEDGE
                case TryAgain(failures, _, queue_delay_ms, hold_ms):
                    self._reading.failed(delivery, failures)
                    delivery = delivery.after(failures)
                    self._wait((queue_delay_ms or hold_ms) / 1000, session)
                case Hold():
                    self._wait(self._processor.pause.next_s(), session)
                case Replacement() as replacement:
                    self._wait(RETRY_S, session)
                case Action():
                    self._wait(RETRY_S, session)
        return Action.REQUEUE

    def _attempt(
        self, session: Subscription, delivery: StreamDelivery, replacement: Replacement | None
    ) -> Result:
        if replacement is not None:
            return self._processor.replace(delivery, replacement)
        self._deadlines.begun(delivery)
        try:
            return self._processor.process(
                delivery,
                still_ours=lambda: session.can_settle,
                is_trial=self._processor.pause.cause is not None,
            )
        except Exception:  # a defect of ours; the message is none the worse for it
            logger.exception(
                "Internal error while processing a message of consumer '%s'", delivery.consumer_tag
            )
            return Action.REQUEUE
        finally:
            self._deadlines.finished(delivery)

    def _wait(self, pause_s: float, session: Subscription) -> None:
        end = self._runtime.monotonic() + pause_s
        while (left_s := end - self._runtime.monotonic()) > 0 and session.can_settle:
            if self._stopping.wait(min(left_s, _LOOK_AGAIN_S)):
                return

"""What is wrong, told from what is known. Pure: no broker, no clock, no thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attune_mq.messaging.pulse import ASK_EVERY_S
from attune_mq.messaging.status import ConsumerStatus

ANSWER_WITHIN_S = 1.0
GOOD_FOR_S = ASK_EVERY_S + ANSWER_WITHIN_S
"""How long an answer is good: until the next question, and as long as its answer may take."""
STUCK_AFTER_S = 10.0
"""A loop that has not turned for so long is not slow but stuck: only a new process mends it."""

Ask = Callable[[], str | None]
"""What is wrong, in words for people and without a secret; ``None``: nothing. Answers at once."""


@dataclass(frozen=True)
class Check:
    """``name`` says what is looked at, such as ``database``; ``ask`` what is wrong with it."""

    name: str
    ask: Ask

    def trouble(self) -> str | None:
        """Never raises: a check that fails to tell is red."""
        try:
            return self.ask()
        except Exception as error:
            return f"it cannot be told: {type(error).__name__}"


def consumer_trouble(status: ConsumerStatus, now_s: float) -> str | None:
    """Why a consumer is not consuming at ``now_s``, on the monotonic clock."""
    if status.state != "stopped" and not status.is_alive:
        return "a thread of it has ended" if status.state != "starting" else "it is not started"
    if status.state != "consuming" or status.vitals is None:
        return f"{status.state}: {status.detail}" if status.detail else status.state
    turned_s = now_s - status.vitals.turned_at_s
    if turned_s > GOOD_FOR_S:
        return "its loop does not turn"
    if now_s - status.vitals.answered_at_s > GOOD_FOR_S:
        return "the broker does not answer on its connection"
    if status.vitals.consumers == 0:
        return "the broker counts no consumer on its queue"
    if status.overdue >= status.concurrency:
        return f"all {status.concurrency} of its handlers are over their deadline"
    return None


def loop_trouble(status: ConsumerStatus, now_s: float) -> str | None:
    """Why a consumer will not consume again in this process.

    One that waits for its broker will. A loop that stands is given :data:`STUCK_AFTER_S`.
    """
    if status.state == "starting":
        return None
    if status.state == "stopped" or not status.is_alive:
        return "its thread has ended"
    vitals = status.vitals
    stands = vitals is not None and now_s - vitals.turned_at_s > STUCK_AFTER_S
    if status.state in ("consuming", "paused") and stands:
        return f"its loop has not turned for {STUCK_AFTER_S:g} s"
    return None

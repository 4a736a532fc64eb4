"""What is wrong, told from what is known. Pure: no broker, no clock, no thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attune_mq.consuming.deadlines import RunningHandler
from attune_mq.consuming.registration import ASK_EVERY_S
from attune_mq.consuming.status import ConsumerStatus
from attune_mq.topology.durations import format_duration

ANSWER_WITHIN_S = 1.0
GOOD_FOR_S = ASK_EVERY_S + ANSWER_WITHIN_S
"""How long an answer is good: until the next question, and as long as its answer may take."""
STUCK_AFTER_S = 10.0
"""A loop that has not turned for so long is not slow but stuck: only a new process mends it."""
BUSY_AFTER_S = 60.0
"""A consumer whose handlers have all been at their messages for so long, while others wait, is
worth a look: where the file gives it no ``deadline``, nobody has said that this is usual."""
MOST_NAMED = 3
"""Handlers that one line names."""

Ask = Callable[[], str | None]
"""What is wrong, in words for people and without a secret; ``None``: nothing. Answers at once."""


@dataclass(frozen=True)
class Check:
    """``name`` says what is looked at, such as ``database``; ``ask`` what is wrong with it;
    ``warn`` what may be."""

    name: str
    ask: Ask
    warn: Ask = lambda: None

    def trouble(self) -> str | None:
        """Never raises: a check that fails to tell is red."""
        return _told(self.ask)

    def warning(self) -> str | None:
        """Never raises."""
        return _told(self.warn)


def _told(ask: Ask) -> str | None:
    try:
        return ask()
    except Exception as error:
        return f"it cannot be told: {type(error).__name__}"


def consumer_trouble(status: ConsumerStatus, now_s: float) -> str | None:
    """Why a consumer is not consuming at ``now_s``, on the monotonic clock."""
    if status.state != "stopped" and not status.is_alive:
        return "a thread of it has ended" if status.state != "starting" else "it is not started"
    if status.state != "consuming" or status.liveness is None:
        return f"{status.state}: {status.detail}" if status.detail else status.state
    turned_s = now_s - status.liveness.turned_at_s
    if turned_s > GOOD_FOR_S:
        return "its loop does not turn"
    if now_s - status.liveness.answered_at_s > GOOD_FOR_S:
        return "the broker does not answer on its connection"
    if status.liveness.consumers == 0:
        return "the broker counts no consumer on its queue"
    if status.overdue >= status.concurrency:
        return f"all {status.concurrency} of its handlers are {_over_the_deadline(status)}"
    return None


def consumer_warning(status: ConsumerStatus) -> str | None:
    """What may be wrong with a consumer that consumes: some of its handlers hang, or all of them,
    which is no trouble until the deadline."""
    if 0 < status.overdue < status.concurrency:
        count = f"{status.overdue} of its {status.concurrency} handlers are"
        return f"{count} {_over_the_deadline(status)}"
    busy_s = min((one.for_s for one in status.running), default=0.0)
    all_busy = len(status.running) >= status.concurrency and busy_s > BUSY_AFTER_S
    if status.has_deadline or not (all_busy and _waiting(status)):
        return None
    return (
        f"it has handled nothing for {busy_s:.0f} s while {_waiting(status)} messages wait: "
        f"{_named(status.running)}; if that is usual, say so by a deadline in the topology file"
    )


def _waiting(status: ConsumerStatus) -> int:
    """Messages that no handler has begun: in its hands, and in the queue."""
    in_queue = status.liveness.waiting if status.liveness else None
    return max(0, status.in_flight - len(status.running)) + (in_queue or 0)


def _over_the_deadline(status: ConsumerStatus) -> str:
    deadline = format_duration(status.deadline_ms)
    default = "" if status.has_deadline else ", the default"
    return f"over their deadline ({deadline}{default}): {_named(status.running[: status.overdue])}"


def _named(handlers: Sequence[RunningHandler]) -> str:
    more = len(handlers) - MOST_NAMED
    named = ", ".join(str(one) for one in handlers[:MOST_NAMED])
    return f"{named} and {more} more" if more > 0 else named


def loop_trouble(status: ConsumerStatus, now_s: float) -> str | None:
    """Why a consumer will not consume again in this process.

    One that waits for its broker will. A loop that stands is given :data:`STUCK_AFTER_S`.
    """
    if status.state == "starting":
        return None
    if status.state == "stopped" or not status.is_alive:
        return "its thread has ended"
    liveness = status.liveness
    stands = liveness is not None and now_s - liveness.turned_at_s > STUCK_AFTER_S
    if status.state in ("consuming", "paused") and stands:
        return f"its loop has not turned for {STUCK_AFTER_S:g} s"
    return None

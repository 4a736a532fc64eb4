"""What becomes of a message, decided from what came of handling it. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from attune_mq.errors import Reject, RetryLater
from attune_mq.topology.objects import DEFAULT_ATTEMPTS, DEFAULT_BACKOFF_MS, Retry

MAX_REDELIVERIES = 20
"""How often a classic queue may hand out a message again without its being settled: as many as
RabbitMQ 4 allows on a quorum queue."""

MAX_ERROR_TEXT = 1_000
MAX_ERROR_TRACE = 4_000


@dataclass(frozen=True)
class ErrorReport:
    """An error for the headers of a dead letter: bounded, and text only."""

    type: str
    text: str
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ErrorReport:
        kind = type(error)
        name = (
            kind.__qualname__
            if kind.__module__ == "builtins"
            else f"{kind.__module__}.{kind.__qualname__}"
        )
        trace = "".join(traceback.format_exception(error))
        return cls(name, str(error)[:MAX_ERROR_TEXT], trace[-MAX_ERROR_TRACE:])


# What came of handling it.


@dataclass(frozen=True)
class Done:
    pass


@dataclass(frozen=True)
class Failed:
    """The handler raised. ``delay_ms`` is what it asked for, if it did."""

    error: ErrorReport
    delay_ms: int | None = None


@dataclass(frozen=True)
class Rejected:
    """The handler will never take it."""

    error: ErrorReport


@dataclass(frozen=True)
class Unreadable:
    """No envelope, or no payload of its type, can be read from the body."""

    reason: str


@dataclass(frozen=True)
class Unhandled:
    """No handler takes this type."""

    message_type: str


@dataclass(frozen=True)
class ComesAgain:
    """A classic queue hands it out again, unsettled: this time is number ``redeliveries``."""

    redeliveries: int


Outcome = Done | Failed | Rejected | Unreadable | Unhandled | ComesAgain


# What becomes of it.


@dataclass(frozen=True)
class Acknowledge:
    pass


@dataclass(frozen=True)
class TryAgain:
    """Published again with ``failures`` counted. ``queue_delay_ms``: by way of the retry queue of
    that delay; otherwise straight to its queue, where it is held until ``hold_ms`` are over."""

    failures: int
    error: ErrorReport
    queue_delay_ms: int | None = None
    hold_ms: int = 0


@dataclass(frozen=True)
class CountRedelivery:
    """Published again with this count, so that it survives whatever keeps ending its handling."""

    redeliveries: int


@dataclass(frozen=True)
class DeadLetter:
    reason: str
    error: ErrorReport
    attempts: int


Settlement = Acknowledge | TryAgain | CountRedelivery | DeadLetter


@dataclass(frozen=True)
class RetryPolicy:
    """``attempts`` in all. ``queue_delays_ms``: the retry queues there are; empty: held delays."""

    attempts: int = DEFAULT_ATTEMPTS
    queue_delays_ms: tuple[int, ...] = ()
    held_delays_ms: tuple[int, ...] = DEFAULT_BACKOFF_MS

    @classmethod
    def of(cls, retry: Retry | None) -> RetryPolicy:
        if retry is None:
            return cls()
        return cls(attempts=retry.attempts, queue_delays_ms=retry.backoff_ms)


def failure_of(error: BaseException) -> Failed | Rejected:
    """What an exception of a handler means."""
    if isinstance(error, Reject):
        return Rejected(ErrorReport.of(error))
    delay_s = error.delay_s if isinstance(error, RetryLater) else None
    return Failed(ErrorReport.of(error), None if delay_s is None else int(delay_s * 1000))


def decide(outcome: Outcome, failures: int, policy: RetryPolicy) -> Settlement:
    """``failures``: how often this message failed before."""
    match outcome:
        case Done():
            return Acknowledge()
        case Failed(error, delay_ms):
            return _after_failure(error, failures + 1, delay_ms, policy)
        case Rejected(error):
            return DeadLetter("rejected", error, failures + 1)
        case Unreadable(reason):
            return DeadLetter("unreadable", ErrorReport("MalformedMessage", reason), failures + 1)
        case Unhandled(message_type):
            text = f"no handler takes messages of type {message_type!r}"
            return DeadLetter("unhandled", ErrorReport("UnknownMessageType", text), failures + 1)
        case ComesAgain(redeliveries):
            return _after_redelivery(redeliveries, failures)


def _after_failure(
    error: ErrorReport, failures: int, asked_ms: int | None, policy: RetryPolicy
) -> Settlement:
    if failures >= policy.attempts:
        return DeadLetter("attempts exhausted", error, failures)
    if policy.queue_delays_ms:
        delay_ms = _step(policy.queue_delays_ms, failures)
        if asked_ms is not None:
            longer = [step for step in sorted(policy.queue_delays_ms) if step >= asked_ms]
            delay_ms = longer[0] if longer else max(policy.queue_delays_ms)
        return TryAgain(failures, error, queue_delay_ms=delay_ms)
    hold_ms = _step(policy.held_delays_ms, failures) if asked_ms is None else asked_ms
    return TryAgain(failures, error, hold_ms=hold_ms)


def _step(delays_ms: Sequence[int], failures: int) -> int:
    """The first delay after the first failure; the last one repeats."""
    return delays_ms[min(failures, len(delays_ms)) - 1]


def _after_redelivery(redeliveries: int, failures: int) -> Settlement:
    if redeliveries > MAX_REDELIVERIES:
        text = (
            f"handed out {redeliveries} times and never settled: whoever handles it seems to die "
            f"of it"
        )
        return DeadLetter("redelivered", ErrorReport("NeverSettled", text), failures)
    return CountRedelivery(redeliveries)

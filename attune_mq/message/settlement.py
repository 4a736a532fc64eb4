"""What becomes of a message, decided from what came of handling it. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from attune_mq.errors import Reject, RetryLater
from attune_mq.topology.objects import DEFAULT_ATTEMPTS, DEFAULT_BACKOFF_MS, Queue, Retry

MAX_REDELIVERIES = 20
"""How often a message may be redelivered, as on the quorum queues of RabbitMQ 4."""
MAX_DELAY_MS = 7 * 24 * 60 * 60 * 1000
"""A handler that asks for a longer delay gets this one."""

MAX_ERROR_TYPE = 255
MAX_ERROR_TEXT = 1_000
MAX_ERROR_TRACE = 4_000
"""In characters, each of four bytes at most."""


@dataclass(frozen=True)
class ErrorReport:
    """An error for the headers of a dead letter: bounded, and text only."""

    type: str
    text: str
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ErrorReport:
        kind = type(error)
        is_built_in = kind.__module__ == "builtins"
        name = kind.__qualname__ if is_built_in else f"{kind.__module__}.{kind.__qualname__}"
        return cls(
            _writable(name)[:MAX_ERROR_TYPE],
            _writable(_text(error))[:MAX_ERROR_TEXT],
            _writable(_trace(error))[-MAX_ERROR_TRACE:],
        )


def _trace(error: BaseException) -> str:
    """As Python prints it, but for the values in an error of pydantic."""
    trace = "".join(traceback.format_exception(error))
    for one in _chain(error):
        if isinstance(one, ValidationError):
            trace = trace.replace(str(one), _text(one))
    return trace


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    try:
        if isinstance(error, ValidationError):  # its text holds values, which may be secrets
            return "; ".join(
                f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}"
                for one in error.errors(include_url=False, include_input=False)
            )
        return str(error)
    except Exception:
        return "its text cannot be read: str() of it fails"


def _writable(text: str) -> str:
    """AMQP carries UTF-8, which has no lone surrogates; names of files may hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


# What came of handling it.


@dataclass(frozen=True)
class Done:
    pass


DONE = Done()
"""Singleton."""


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
class Unavailable:
    """A dependency of the handler is unavailable. The message is none the worse for it."""

    dependency: str
    error: ErrorReport

    def __str__(self) -> str:
        return f"{self.dependency}: {self.error.type}: {self.error.text}"


Outcome = Done | Failed | Rejected | Unreadable | Unhandled | Unavailable


# What becomes of it.


@dataclass(frozen=True)
class Acknowledge:
    pass


ACKNOWLEDGE = Acknowledge()


@dataclass(frozen=True)
class TryAgain:
    """Published again with ``failures`` counted. ``queue_delay_ms``: by way of the retry queue of
    that delay; otherwise straight to its queue, where it is held until ``hold_ms`` are over."""

    failures: int
    error: ErrorReport
    queue_delay_ms: int | None = None
    hold_ms: int = 0


@dataclass(frozen=True)
class RepublishWithCount:
    """Published again with this count, so that it survives whatever keeps ending its handling."""

    redeliveries: int


@dataclass(frozen=True)
class DeadLetter:
    reason: str
    error: ErrorReport
    attempts: int


@dataclass(frozen=True)
class Hold:
    """It stays with us, uncounted, until the dependency is available again."""

    cause: Unavailable


Settlement = Acknowledge | TryAgain | RepublishWithCount | DeadLetter | Hold


@dataclass(frozen=True)
class RetryPolicy:
    """``attempts`` in all. ``queue_delays_ms``: the retry queues there are; empty: held delays.
    ``max_redeliveries``: how often it may be redelivered; ``None`` is without limit."""

    attempts: int = DEFAULT_ATTEMPTS
    queue_delays_ms: tuple[int, ...] = ()
    held_delays_ms: tuple[int, ...] = DEFAULT_BACKOFF_MS
    max_redeliveries: int | None = MAX_REDELIVERIES

    @classmethod
    def of(cls, queue: Queue) -> RetryPolicy:
        retry = queue.retry or Retry()
        # Where the file gives the broker a limit, it is the broker's to hold.
        limit = MAX_REDELIVERIES if queue.delivery_limit is None else None
        return cls(retry.attempts, retry.backoff_ms, max_redeliveries=limit)


def failure_of(error: BaseException) -> Failed | Rejected:
    """What an exception of a handler means."""
    if isinstance(error, Reject):
        return Rejected(ErrorReport.of(error))
    asked_s = error.delay_s if isinstance(error, RetryLater) else None
    delay_ms = None
    if asked_s is not None:
        # The order of min and max makes 0 of what is no number, and the longest of infinity.
        delay_ms = int(min(MAX_DELAY_MS, max(0.0, asked_s * 1000)))
    return Failed(ErrorReport.of(error), delay_ms)


def decide_before_handling(
    redeliveries: int, failures: int, policy: RetryPolicy, *, counted: bool
) -> Settlement | None:
    """For a message that was redelivered ``redeliveries`` times; ``None``: it is handled.

    ``counted``: the last of these is written down, by the broker or by a consumer. Otherwise it
    has to be before it is handled: what handling it does to us may leave us no time.
    """
    if policy.max_redeliveries is not None and redeliveries > policy.max_redeliveries:
        text = f"delivery limit exceeded: {redeliveries} redeliveries; suspected poison message"
        return DeadLetter("redelivered", ErrorReport("NeverSettled", text), failures)
    return None if counted else RepublishWithCount(redeliveries)


def decide(outcome: Outcome, failures: int, policy: RetryPolicy) -> Settlement:
    """``failures``: how often this message failed before."""
    match outcome:
        case Done():
            return ACKNOWLEDGE
        case Failed(error, delay_ms):
            return _after_failure(error, failures + 1, delay_ms, policy)
        case Unavailable():
            return Hold(outcome)
        case Rejected(error):
            return DeadLetter("rejected", error, failures + 1)
        case Unreadable(reason):
            return DeadLetter("unreadable", ErrorReport("MalformedMessage", reason), failures + 1)
        case Unhandled(message_type):
            text = f"no handler takes messages of type {message_type!r}"
            return DeadLetter("unhandled", ErrorReport("UnknownMessageType", text), failures + 1)


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

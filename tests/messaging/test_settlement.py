"""What becomes of a message, decided without a broker."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from attune_mq.errors import Reject, RetryLater
from attune_mq.message.settlement import (
    MAX_DELAY_MS,
    MAX_ERROR_TEXT,
    MAX_ERROR_TRACE,
    MAX_ERROR_TYPE,
    MAX_REDELIVERIES,
    Done,
    Failed,
    Rejected,
    RetryPolicy,
    Unhandled,
    Unreadable,
    decide,
    decide_before_handling,
    failure_of,
)
from attune_mq.testing import Acknowledge, DeadLetter, ErrorReport, RepublishWithCount, TryAgain
from attune_mq.topology import Queue, Retry

ERROR = ErrorReport("ValueError", "no")
HELD = RetryPolicy()
QUEUED = RetryPolicy(attempts=5, queue_delays_ms=(1_000, 10_000, 60_000))


def raised(error: BaseException) -> BaseException:
    """The error with a traceback, as a handler raises it."""
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_message_that_is_handled_is_acknowledged() -> None:
    assert decide(Done(), 0, HELD) == Acknowledge()


def test_a_failed_message_has_three_attempts_unless_its_queue_says_otherwise() -> None:
    assert decide(Failed(ERROR), 0, HELD) == TryAgain(1, ERROR, hold_ms=1_000)
    assert decide(Failed(ERROR), 1, HELD) == TryAgain(2, ERROR, hold_ms=5_000)
    assert decide(Failed(ERROR), 2, HELD) == DeadLetter("attempts exhausted", ERROR, 3)


def test_retry_queues_are_used_in_order_and_the_last_repeats() -> None:
    delays = [decide(Failed(ERROR), failures, QUEUED) for failures in range(5)]

    assert delays == [
        TryAgain(1, ERROR, queue_delay_ms=1_000),
        TryAgain(2, ERROR, queue_delay_ms=10_000),
        TryAgain(3, ERROR, queue_delay_ms=60_000),
        TryAgain(4, ERROR, queue_delay_ms=60_000),
        DeadLetter("attempts exhausted", ERROR, 5),
    ]


@pytest.mark.parametrize(
    ("asked_ms", "chosen_ms"), [(0, 1_000), (1_000, 1_000), (1_001, 10_000), (99_000, 60_000)]
)
def test_a_delay_that_is_asked_for_takes_the_nearest_retry_queue_that_is_long_enough(
    asked_ms: int, chosen_ms: int
) -> None:
    decided = decide(Failed(ERROR, delay_ms=asked_ms), 0, QUEUED)

    assert decided == TryAgain(1, ERROR, queue_delay_ms=chosen_ms)


def test_a_delay_that_is_asked_for_is_held_exactly_where_there_are_no_retry_queues() -> None:
    assert decide(Failed(ERROR, delay_ms=123), 0, HELD) == TryAgain(1, ERROR, hold_ms=123)


def test_a_message_that_is_rejected_has_no_second_attempt() -> None:
    assert decide(Rejected(ERROR), 0, QUEUED) == DeadLetter("rejected", ERROR, 1)


def test_what_cannot_be_read_or_is_for_nobody_is_dead_lettered_with_the_reason() -> None:
    unreadable = decide(Unreadable("body: expected JSON"), 0, QUEUED)
    unhandled = decide(Unhandled("Strange"), 0, QUEUED)

    assert isinstance(unreadable, DeadLetter)
    assert (unreadable.reason, unreadable.error.text) == ("unreadable", "body: expected JSON")
    assert isinstance(unhandled, DeadLetter)
    assert unhandled.reason == "unhandled"
    assert "'Strange'" in unhandled.error.text


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(failures=st.integers(0, 50), attempts=st.integers(1, 20))
def test_attempts_always_come_to_an_end(failures: int, attempts: int) -> None:
    decided = decide(Failed(ERROR), failures, RetryPolicy(attempts=attempts))

    if failures + 1 >= attempts:
        assert isinstance(decided, DeadLetter)
    else:
        assert isinstance(decided, TryAgain)
        assert decided.failures == failures + 1


# What an exception means.


def test_a_handler_that_raises_reject_rejects() -> None:
    failure = failure_of(raised(Reject("never")))

    assert isinstance(failure, Rejected)
    assert failure.error.text == "never"


@pytest.mark.parametrize(
    ("delay_s", "delay_ms"),
    [(None, None), (0, 0), (1.5, 1_500), (-3, 0), (math.nan, 0), (math.inf, MAX_DELAY_MS)],
)
def test_a_handler_asks_for_a_delay_in_seconds(delay_s: float | None, delay_ms: int | None) -> None:
    failure = failure_of(raised(RetryLater("busy", delay_s=delay_s)))

    assert isinstance(failure, Failed)
    assert failure.delay_ms == delay_ms


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_whatever_else_is_raised_is_a_failure(error: BaseException) -> None:
    failure = failure_of(raised(error))

    assert isinstance(failure, Failed)
    assert failure.error.type == type(error).__name__


# What is told of an error.


def test_an_error_is_told_by_type_text_and_trace() -> None:
    report = ErrorReport.of(raised(ValueError("no such action")))

    assert (report.type, report.text) == ("ValueError", "no such action")
    assert report.trace.startswith("Traceback")
    assert report.trace.endswith("ValueError: no such action\n")


def test_an_error_of_a_module_is_told_with_its_module() -> None:
    assert ErrorReport.of(Reject("no")).type == "attune_mq.errors.Reject"


def test_what_is_told_is_bounded_and_keeps_the_end_of_the_trace() -> None:
    kind = type("K" * 1_000, (Exception,), {})

    report = ErrorReport.of(raised(kind("x" * 50_000 + "the end")))

    assert len(report.type) == MAX_ERROR_TYPE
    assert len(report.text) == MAX_ERROR_TEXT
    assert len(report.trace) == MAX_ERROR_TRACE
    assert report.trace.endswith("the end\n")


def test_text_that_amqp_cannot_carry_is_escaped() -> None:
    report = ErrorReport.of(raised(FileNotFoundError("caf\udce9.txt")))

    assert report.text == "caf\\udce9.txt"
    assert report.trace.encode()


def test_an_error_that_cannot_say_what_it_is_is_told_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    report = ErrorReport.of(raised(Mute()))

    assert "cannot be read" in report.text
    assert report.type.endswith("Mute")


# What comes back unsettled.


def test_a_message_that_comes_for_the_first_time_is_handled() -> None:
    assert decide_before_handling(0, 0, HELD, counted=True) is None


def test_a_message_that_came_back_is_written_down_before_it_is_handled() -> None:
    assert decide_before_handling(1, 2, HELD, counted=False) == RepublishWithCount(1)
    assert decide_before_handling(1, 2, HELD, counted=True) is None


@pytest.mark.parametrize("counted", [True, False])
def test_a_message_that_comes_back_too_often_is_given_up(counted: bool) -> None:
    last = decide_before_handling(MAX_REDELIVERIES, 0, HELD, counted=counted)
    beyond = decide_before_handling(MAX_REDELIVERIES + 1, 2, HELD, counted=counted)

    assert last in (None, RepublishWithCount(MAX_REDELIVERIES))
    assert isinstance(beyond, DeadLetter)
    assert (beyond.reason, beyond.attempts) == ("redelivered", 2)


# What the file says.


def test_the_policy_of_a_queue_is_what_the_file_says() -> None:
    retry = Retry(attempts=7, backoff_ms=(5,))

    assert RetryPolicy.of(Queue(name="q", retry=retry)) == RetryPolicy(7, (5,))
    assert RetryPolicy.of(Queue(name="q")) == RetryPolicy()


def test_a_delivery_limit_in_the_file_is_the_brokers_to_hold() -> None:
    policy = RetryPolicy.of(Queue(name="q", type="quorum", delivery_limit=100))

    assert decide_before_handling(99, 0, policy, counted=True) is None

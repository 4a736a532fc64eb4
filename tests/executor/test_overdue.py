"""What becomes of an execution of which nobody reports, as a table of cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from attune_executor.overdue import Absence, End, Limits, ScheduleAnew, Verdict, verdict
from attune_executor.store import Execution
from attune_mq.payloads import ExecutionStatus as S

NOON = datetime(2026, 9, 3, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIMITS = Limits(
    dispatch_grace=10 * SECOND,
    dispatch_limit=100 * SECOND,
    worker_absence=50 * SECOND,
    running_limit=1_000 * SECOND,
)
THERE = Absence()
AWAY = Absence(without_consumer=50 * SECOND)
GONE = Absence(without_consumer=50 * SECOND, without_queue=50 * SECOND)

SCHEDULED = Execution(
    execution_id=1,
    enforcement_id=None,
    action_ref="core.echo",
    action_id=1,
    config=None,
    status=S.SCHEDULED,
    worker_id=1,
    scheduling_attempts=1,
    result=None,
    created_at=NOON,
    updated_at=NOON,
    scheduled_at=NOON,
)
RUNNING = replace(SCHEDULED, status=S.RUNNING, started_at=NOON)
CANCELING = replace(SCHEDULED, status=S.CANCELING)
CANCELING_WHAT_RUNS = replace(RUNNING, status=S.CANCELING)


def died(execution: Execution) -> Execution:
    return replace(execution, dispatch_died_at=NOON)


@pytest.mark.parametrize(
    ("execution", "absence", "after_s", "becomes"),
    [
        (SCHEDULED, THERE, 99, None),
        (SCHEDULED, THERE, 100, S.FAILED),
        (SCHEDULED, AWAY, 99, None),
        (SCHEDULED, GONE, 9, None),
        (SCHEDULED, GONE, 10, ScheduleAnew()),
        (died(SCHEDULED), THERE, 9, None),
        (died(SCHEDULED), THERE, 10, S.FAILED),
        (CANCELING, THERE, 99, None),
        (CANCELING, THERE, 100, S.ABANDONED),
        (CANCELING, GONE, 10, S.CANCELLED),
        (died(CANCELING), THERE, 9, None),
        (died(CANCELING), THERE, 10, S.CANCELLED),
        (RUNNING, AWAY, 999, None),
        (RUNNING, GONE, 1, S.ABANDONED),
        (died(RUNNING), THERE, 999, None),
        (died(RUNNING), AWAY, 1, S.ABANDONED),
        (RUNNING, THERE, 1_000, S.ABANDONED),
        (died(CANCELING_WHAT_RUNS), THERE, 999, None),
        (died(CANCELING_WHAT_RUNS), AWAY, 1, S.ABANDONED),
        (CANCELING_WHAT_RUNS, THERE, 1_000, S.ABANDONED),
    ],
)
def test_an_execution_without_a_report_is_waited_for_or_ended_or_scheduled_anew(
    execution: Execution, absence: Absence, after_s: int, becomes: S | ScheduleAnew | None
) -> None:
    decided = verdict(execution, absence, LIMITS, NOON + after_s * SECOND)

    assert (decided.status if isinstance(decided, End) else decided) == becomes


def test_a_worker_that_may_still_have_the_dispatch_is_told() -> None:
    late = NOON + 1_000 * SECOND
    told = [verdict(one, THERE, LIMITS, late) for one in (SCHEDULED, RUNNING)]
    not_told = [
        verdict(died(SCHEDULED), THERE, LIMITS, late),
        verdict(CANCELING, GONE, LIMITS, late),
    ]

    assert [one.is_out for one in told if isinstance(one, End)] == [True, True]
    assert [one.is_out for one in not_told if isinstance(one, End)] == [False, False]


waits = st.integers(0, 2_000).map(lambda seconds: seconds * SECOND)


@given(
    execution=st.sampled_from([SCHEDULED, RUNNING, CANCELING, CANCELING_WHAT_RUNS]),
    has_died=st.booleans(),
    absence=st.builds(Absence, st.none() | waits, st.none() | waits),
    wait=waits,
)
def test_what_runs_is_never_failed_nor_run_a_second_time_and_nothing_waits_for_ever(
    execution: Execution, has_died: bool, absence: Absence, wait: timedelta
) -> None:
    decided: Verdict = verdict(
        died(execution) if has_died else execution, absence, LIMITS, NOON + wait
    )

    if execution.started_at is not None:
        assert decided is None or (isinstance(decided, End) and decided.status is S.ABANDONED)
    if wait >= LIMITS.running_limit:
        assert decided is not None

"""What becomes of an execution of which nobody reports, as a table of cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from attune_executor.overdue import Absence, End, Limits, ScheduleAgain, Verdict, verdict
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
JUST_GONE = Absence(without_consumer=9 * SECOND, without_queue=9 * SECOND)
JUST_DIED = Absence(without_dispatch=9 * SECOND)
DIED = Absence(without_dispatch=10 * SECOND)
SILENT = Absence(without_word=50 * SECOND)
DIED_LONG_AGO = Absence(without_dispatch=100 * SECOND, without_word=50 * SECOND)
DIED_AND_AWAY = replace(AWAY, without_dispatch=SECOND)

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
REPEATED = replace(RUNNING, updated_at=NOON + SECOND)
CANCELING = replace(SCHEDULED, status=S.CANCELING)
CANCELING_WHAT_RUNS = replace(RUNNING, status=S.CANCELING)


@pytest.mark.parametrize(
    ("execution", "absence", "after_s", "becomes"),
    [
        (SCHEDULED, THERE, 1_000, None),
        (SCHEDULED, SILENT, 99, None),
        (SCHEDULED, SILENT, 100, S.FAILED),
        (SCHEDULED, AWAY, 99, None),
        (SCHEDULED, JUST_GONE, 99, None),
        (SCHEDULED, GONE, 1, ScheduleAgain()),
        (SCHEDULED, JUST_DIED, 99, None),
        (SCHEDULED, DIED, 1, S.FAILED),
        (CANCELING, THERE, 1_000, None),
        (CANCELING, SILENT, 99, None),
        (CANCELING, SILENT, 100, S.ABANDONED),
        (CANCELING, JUST_GONE, 99, None),
        (CANCELING, GONE, 1, S.CANCELLED),
        (CANCELING, JUST_DIED, 99, None),
        (CANCELING, DIED, 1, S.CANCELLED),
        (RUNNING, AWAY, 999, None),
        (RUNNING, JUST_GONE, 999, None),
        (RUNNING, GONE, 1, S.ABANDONED),
        (RUNNING, DIED, 999, None),
        (RUNNING, DIED_AND_AWAY, 1, S.ABANDONED),
        (RUNNING, DIED_LONG_AGO, 999, None),
        (REPEATED, DIED_LONG_AGO, 50, None),
        (REPEATED, DIED_LONG_AGO, 51, S.ABANDONED),
        (REPEATED, DIED, 999, None),
        (REPEATED, THERE, 999, None),
        (RUNNING, THERE, 5_000, None),
        (RUNNING, SILENT, 999, None),
        (RUNNING, SILENT, 1_000, S.ABANDONED),
        (CANCELING_WHAT_RUNS, DIED, 999, None),
        (CANCELING_WHAT_RUNS, DIED_LONG_AGO, 99, None),
        (CANCELING_WHAT_RUNS, DIED_LONG_AGO, 100, S.ABANDONED),
        (CANCELING_WHAT_RUNS, DIED_AND_AWAY, 1, S.ABANDONED),
        (CANCELING_WHAT_RUNS, SILENT, 1_000, S.ABANDONED),
    ],
)
def test_an_execution_without_a_report_is_waited_for_or_ended_or_scheduled_anew(
    execution: Execution, absence: Absence, after_s: int, becomes: S | ScheduleAgain | None
) -> None:
    decided = verdict(execution, absence, LIMITS, NOON + after_s * SECOND)

    assert (decided.status if isinstance(decided, End) else decided) == becomes


def test_a_worker_that_may_still_have_the_dispatch_is_told() -> None:
    late = NOON + 1_000 * SECOND
    told = [verdict(one, SILENT, LIMITS, late) for one in (SCHEDULED, RUNNING)]
    not_told = [verdict(SCHEDULED, DIED, LIMITS, late), verdict(CANCELING, GONE, LIMITS, late)]

    assert [one.is_out for one in told if isinstance(one, End)] == [True, True]
    assert [one.is_out for one in not_told if isinstance(one, End)] == [False, False]


waits = st.integers(0, 2_000).map(lambda seconds: seconds * SECOND)


@given(
    execution=st.sampled_from([SCHEDULED, RUNNING, REPEATED, CANCELING, CANCELING_WHAT_RUNS]),
    absence=st.builds(Absence, *[st.none() | waits] * 4),
    wait=waits,
)
def test_what_runs_is_never_failed_nor_run_a_second_time_and_nothing_waits_for_ever(
    execution: Execution, absence: Absence, wait: timedelta
) -> None:
    decided: Verdict = verdict(execution, absence, LIMITS, NOON + wait)

    if execution.started_at is not None:
        assert decided is None or (isinstance(decided, End) and decided.status is S.ABANDONED)
    seen = absence.without_word or timedelta(0)
    if wait > LIMITS.running_limit and seen >= LIMITS.worker_absence:
        assert decided is not None

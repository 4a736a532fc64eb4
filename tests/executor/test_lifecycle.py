from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from attune_executor.lifecycle import (
    DISPATCHED,
    FINAL,
    UNSCHEDULED,
    WITH_WORKER,
    predecessors,
)
from attune_mq.payloads import ExecutionStatus as S

THE_WAY = [S.REQUESTED, S.SCHEDULING, S.SCHEDULED, S.RUNNING]
THE_ENDS = [S.COMPLETED, S.FAILED, S.TIMEOUT, S.CANCELLED, S.ABANDONED]

any_status = st.sampled_from(S)


def can_move(current: S, new: S) -> bool:
    return current in predecessors(new)


@pytest.mark.parametrize("end", THE_ENDS)
def test_an_execution_goes_its_way_to_each_of_the_ends(end: S) -> None:
    assert all(can_move(current, new) for current, new in pairwise([*THE_WAY, end]))


@pytest.mark.parametrize("current", [*THE_WAY, S.CANCELING])
@pytest.mark.parametrize("end", THE_ENDS)
def test_every_state_on_the_way_may_skip_to_each_of_the_ends(current: S, end: S) -> None:
    assert can_move(current, end)


@pytest.mark.parametrize("current", THE_WAY)
def test_cancelling_may_begin_anywhere_on_the_way_and_never_leads_back(current: S) -> None:
    assert can_move(current, S.CANCELING)
    assert not can_move(S.CANCELING, current)


def test_completed_may_arrive_before_running_and_running_is_then_ignored() -> None:
    assert can_move(S.SCHEDULED, S.COMPLETED)
    assert not can_move(S.COMPLETED, S.RUNNING)


@given(any_status, any_status)
def test_no_move_is_possible_both_ways_nor_to_the_same_state(one: S, other: S) -> None:
    assert not (can_move(one, other) and can_move(other, one))


@given(st.lists(any_status))
def test_however_messages_arrive_an_execution_moves_only_forward_and_stops_at_an_end(
    arriving: list[S],
) -> None:
    visited = [S.REQUESTED]
    for new in arriving:
        if can_move(visited[-1], new):
            visited.append(new)
    assert len(set(visited)) == len(visited)
    assert not any(status in FINAL for status in visited[:-1])
    on_the_way = [status for status in visited if status in THE_WAY]
    assert on_the_way == [status for status in THE_WAY if status in on_the_way]


def test_nothing_leads_to_requested() -> None:
    assert predecessors(S.REQUESTED) == frozenset()


def test_the_groups_of_states_are_what_they_are_called() -> None:
    assert frozenset(THE_ENDS) == FINAL
    assert frozenset({S.REQUESTED, S.SCHEDULING}) == UNSCHEDULED
    assert frozenset({S.SCHEDULED, S.RUNNING, S.CANCELING}) == WITH_WORKER
    assert frozenset(S) == UNSCHEDULED | WITH_WORKER | FINAL
    assert DISPATCHED | {S.CANCELING} == WITH_WORKER


@pytest.mark.parametrize("word", ["Completed", "COMPLETED", "completed"])
def test_a_status_word_is_read_in_any_case(word: str) -> None:
    assert can_move(S.RUNNING, S(word))


@pytest.mark.parametrize("word", ["canceled", "Canceled", "cancelled"])
def test_canceled_is_cancelled(word: str) -> None:
    assert S(word) is S.CANCELLED

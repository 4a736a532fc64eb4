"""A short run of each system, with the same faults every time: nothing lost, nothing doubled."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from attune_mq.broker import EmbeddedBroker
from tests.faults.clock import library
from tests.faults.migration_runs import POLICY, migrating
from tests.faults.outbox_runs import SET_BACK, setting_clocks
from tests.faults.publisher_programs import FORK, LARGE, SIGNAL
from tests.faults.publisher_runs import publishing
from tests.faults.run import run
from tests.faults.scenes import counting, executing
from tests.faults.schedule import schedule
from tests.faults.stores import SQLiteFiles

OF_CONSUMERS = (
    "a process is killed (SIGKILL)",
    "connections are cut in the middle of a frame",
    "a queue is deleted",
    "the database is locked",
)
OF_EXECUTORS = (
    "a process is killed (SIGKILL)",
    "the broker is killed",
)


def test_consumers_with_an_inbox_lose_nothing_and_double_nothing(
    suffering_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    with counting(suffering_broker, SQLiteFiles(tmp_path), tmp_path, queue="classic") as scene:
        verdict = run(scene, islice(schedule(1, OF_CONSUMERS), len(OF_CONSUMERS)))

    assert verdict.problems() == []


def test_executors_side_by_side_lose_nothing_and_double_nothing(
    suffering_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    with executing(suffering_broker, SQLiteFiles(tmp_path), tmp_path) as scene:
        planned = islice(schedule(1, OF_EXECUTORS), len(OF_EXECUTORS))
        verdict = run(scene, planned, restart_all=False)

    assert verdict.problems() == []


@pytest.mark.parametrize(
    ("program", "seconds", "fault"),
    [("signals", 4.0, SIGNAL), ("forks", 3.0, FORK), ("slow-link", 1.0, LARGE)],
)
def test_what_a_publisher_is_told_is_so(
    program: str, seconds: float, fault: str, suffering_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    verdict = publishing(suffering_broker, tmp_path, "1", seconds, program=program)

    assert verdict.faults[fault] > 0
    assert verdict.messages > 0
    assert verdict.problems() == []


def test_what_a_migration_calls_migrated_is_complete_whatever_policies_come_and_go(
    suffering_broker: EmbeddedBroker,
) -> None:
    verdict = migrating(suffering_broker, "1", 1.0)

    assert verdict.faults[POLICY] > 0
    assert verdict.problems() == []


@pytest.mark.skipif(library() is None, reason="the clock of a process is set by libfaketime")
def test_rows_of_an_outbox_go_out_after_its_clock_was_set_back(
    suffering_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    stores = SQLiteFiles(tmp_path)
    verdict = setting_clocks(suffering_broker, tmp_path, "5", 1.0, stores=stores)

    assert verdict.faults[SET_BACK] > 0
    assert verdict.problems() == []

"""A short run of each system, with the same faults every time: nothing lost, nothing doubled."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from attune_mq.broker.embedded import EmbeddedBroker
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

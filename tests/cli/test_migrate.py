"""``attune-mq migrate``: what it says, and its exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attune_mq.exit_codes import EXIT_CONFLICT, EXIT_FINDINGS, EXIT_INVALID_INPUT, EXIT_OK
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import CountMismatch, Progress, Step
from attune_mq.migration.temporary_topology import TemporaryNames
from tests.cli.running import Run, runner
from tests.messaging.bench import DEAD, QUEUE, WORK, Bench, topology_of


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    bench.set_up(topology_of())
    bench.put(QUEUE, b"1")
    yield bench
    bench.close()


@pytest.fixture
def run(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    file = tmp_path / "topology.yaml"
    file.write_text(WORK.replace("{name: work.queue}", "{name: work.queue, ttl: 1h}"))
    return runner(capsys, "--topology", str(file), "--url", bench.url)


def test_it_says_beforehand_what_it_will_do_and_then_what_it_did(run: Run) -> None:
    ran = run("migrate")

    assert ran.code == EXIT_OK
    assert ran.err.splitlines() == [
        f"queue {QUEUE} (1 messages, 0 consumers)",
        "    x-message-ttl: none -> 3600000",
    ]
    first, last = ran.out.splitlines()
    assert first.startswith(f"migrated  queue {QUEUE}: 1 messages moved, 0 parked meanwhile, ")
    assert last == "1 migrated, 0 skipped"


def test_json_holds_what_was_migrated(run: Run) -> None:
    [migrated] = run("migrate", QUEUE, "--format", "json").json["migrated"]

    assert migrated.pop("seconds") > 0
    assert migrated == {
        "queue": QUEUE,
        "moved": 1,
        "parked": 0,
        "recognised": 0,
        "lost": 0,
        "unseen": ["policies", "unacknowledged"],
    }


def test_a_dry_run_does_nothing_and_exits_1_where_there_is_something_to_do(run: Run) -> None:
    ran = run("migrate", "--dry-run", "--format", "json")

    assert ran.code == EXIT_FINDINGS
    assert ran.json == {
        "migrated": [],
        "skipped": [],
        "planned": [
            {
                "queue": QUEUE,
                "messages": 1,
                "consumers": 0,
                "unfinished": False,
                "changes": [{"field": "x-message-ttl", "expected": "3600000", "found": "none"}],
            }
        ],
    }
    assert run("migrate", "--dry-run").out == "1 to migrate, 0 skipped\n"


def test_a_queue_that_needs_nothing_is_skipped_without_harm(run: Run) -> None:
    ran = run("migrate", DEAD, "--format", "json")

    reason = "nothing to do: it is as the file says"
    assert ran.code == EXIT_OK
    assert ran.json == {"migrated": [], "skipped": [{"queue": DEAD, "reason": reason}]}


def test_a_queue_that_cannot_be_migrated_now_leaves_a_conflict(run: Run, bench: Bench) -> None:
    bench.channel.basic_consume(QUEUE, lambda *_: None)

    ran = run("migrate")

    assert ran.code == EXIT_CONFLICT
    assert f"skipped   queue {QUEUE}: it has consumers (1)" in ran.out


def test_missing_messages_are_a_conflict_and_said_with_what_to_do(run: Run, bench: Bench) -> None:
    moved = TemporaryNames(QUEUE).staging_queue

    def purge(progress: Progress) -> None:
        if progress.step is Step.DRAIN and progress.moved:
            bench.channel.queue_purge(moved)

    with pytest.raises(CountMismatch):
        migrate(topology_of(ttl="1h"), bench.url, names=[QUEUE], on_progress=purge)

    ran = run("migrate")

    assert ran.code == EXIT_CONFLICT
    assert ran.out == ""
    assert f"queue '{moved}': expected 1 messages, found 0" in ran.err
    assert f"`attune-mq migrate {QUEUE} --accept-loss`" in ran.err
    assert ", 1 LOST, " in run("migrate", "--accept-loss").out


@pytest.mark.parametrize(
    "wrong", [("nowhere",), ("--settle", "soon"), ("--patience", "10")], ids=lambda one: one[0]
)
def test_a_wrong_argument_is_said(run: Run, wrong: tuple[str, ...]) -> None:
    ran = run("migrate", *wrong)

    assert ran.code == EXIT_INVALID_INPUT
    assert wrong[-1] in ran.err

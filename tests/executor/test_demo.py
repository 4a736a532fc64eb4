"""The demonstration, as a newcomer runs it: its summary adds up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import handed_on
from tests.executor.harness import ROOT, eventually


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attune_executor", "demo", *arguments],
        env=handed_on(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.fixture(scope="module")
def shown() -> subprocess.CompletedProcess[str]:
    """One run for all: on a private node, as JSON for scripts."""
    return demo("--enforcements", "60", "--format", "json")


def test_every_enforcement_becomes_one_finished_execution_and_one_notification(
    shown: subprocess.CompletedProcess[str],
) -> None:
    assert shown.returncode == 0, shown.stderr
    summary = json.loads(shown.stdout)
    assert set(summary) == {
        "enforcements",
        "executions",
        "notifications",
        "dead_letters",
        "seconds",
        "by_consumer",
    }
    executions = summary["executions"]
    assert summary["enforcements"] == 60
    assert executions["completed"] + executions["failed"] == 60
    assert summary["notifications"] == 60


def test_some_actions_fail_and_the_poisonous_message_is_the_one_dead_letter(
    shown: subprocess.CompletedProcess[str],
) -> None:
    summary = json.loads(shown.stdout)

    # Of each six, one fails and one takes too long; more fail with the worker that is killed.
    assert 20 <= summary["executions"]["failed"] < 60
    assert summary["dead_letters"] == 1


def test_the_three_components_shared_the_work(shown: subprocess.CompletedProcess[str]) -> None:
    by_consumer = json.loads(shown.stdout)["by_consumer"]

    assert set(by_consumer) == {"executor.enforcement", "executor.scheduler", "executor.manager"}
    assert sum(by_consumer.values()) >= 3 * 60  # each was enforced, requested, and ended


def test_the_story_is_told_on_standard_error(shown: subprocess.CompletedProcess[str]) -> None:
    assert "worker-2 is killed" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = tmp_path / "executor.log"
    rules = ROOT / "examples" / "rules.yaml"
    with log.open("w") as stderr:
        executor = subprocess.Popen(
            [
                sys.executable, "-m", "attune_executor", "run", "--embedded", "--rules", str(rules),
                "--database-url", f"sqlite:///{tmp_path / 'attune.db'}", "--health-port", "0",
            ],
            env=handed_on(),
            cwd=ROOT,
            stderr=stderr,
        )  # fmt: skip
        yield executor, log
        executor.kill()
        executor.wait()


def test_the_executor_runs_on_a_private_node_where_nothing_is_there(
    embedded: tuple[subprocess.Popen[bytes], Path],
) -> None:
    executor, log = embedded

    eventually(lambda: "with tag 'executor.manager'" in log.read_text(), within_s=60)
    executor.send_signal(signal.SIGINT)
    assert executor.wait(30) == 0

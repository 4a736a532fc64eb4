"""``attune-executor run`` as a process: killed, told to stop, given bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from attune_mq import Publisher, load_topology
from tests.children import handed_on
from tests.executor.harness import ROOT, SHIPPED, enforcement, eventually, running, settings_for


class ExecutorProcess:
    """``attune-executor run`` as a deployment starts it."""

    def __init__(self, folder: Path, url: str, database_url: str, *arguments: str) -> None:
        self.log = folder / f"executor-{uuid4().hex[:6]}.log"
        settings_for(folder, url, SHIPPED)
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "attune_executor", "run",
                "--url", url, "--topology", str(SHIPPED),
                "--rules", str(folder / "rules.yaml"),
                "--database-url", database_url, "--health-port", "0", *arguments,
            ],
            env=handed_on(),
            cwd=ROOT,
            stderr=self.log.open("w"),
        )  # fmt: skip

    def wait_until(self, text: str, within_s: float = 30.0) -> None:
        eventually(lambda: text in self.log.read_text(), within_s)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def test_executors_that_are_killed_lose_nothing_and_double_nothing(
    tmp_path: Path, broker_url: str, database_url: str
) -> None:
    total = 120

    def start(instance: str) -> ExecutorProcess:
        return ExecutorProcess(tmp_path, broker_url, database_url, "--instance", instance)

    settings = settings_for(tmp_path, broker_url, SHIPPED, database_url)
    with running(settings) as harness:
        pass  # makes database and topology, and serves for looking at them afterwards
    with harness.worker(), harness.notifier(), harness.publisher() as publisher:
        first, second = start("a"), start("b")
        publisher.publish_many(enforcement(number) for number in range(total))
        for share in (20, 50, 80):
            harness.seen.until(lambda share=share: len(harness.seen.dispatches) >= share)  # type: ignore[misc]
            first.end(signal.SIGKILL)
            first, second = second, start(f"after-{share}")
        harness.seen.until(lambda: len(harness.seen.notifications) >= total, within_s=60)

        # A notification may come twice, so so many are not all yet.
        eventually(lambda: harness.executions() == {"completed": total})
        assert harness.enforcements() == {"processed": total}
        dispatched = {dispatch.execution_id for dispatch in harness.seen.dispatches}
        assert len(dispatched) == total
        for executor in (first, second):
            executor.wait_until("with tag 'executor.manager")  # so that it takes signals
            assert executor.end(signal.SIGTERM) == 0


def test_logs_for_machines_are_an_object_a_line_and_say_which_message_it_is(
    tmp_path: Path, broker_url: str, sqlite_url: str
) -> None:
    executor = ExecutorProcess(tmp_path, broker_url, sqlite_url, "--log-format", "json")
    executor.wait_until("with tag 'executor.manager'")
    unknown = enforcement(1, "no.such.rule")
    with Publisher(load_topology(SHIPPED), broker_url) as publisher:
        receipt = publisher.publish(unknown)
    executor.wait_until("is dead-lettered")
    assert executor.end(signal.SIGTERM) == 0

    told = [json.loads(line) for line in executor.log.read_text().splitlines()]
    [dead] = [one for one in told if "is dead-lettered" in one["message"]]
    assert dead["message_id"] == receipt.message_id
    assert dead["message_type"] == "EnforcementCreated"
    assert dead["consumer_tag"].startswith("executor.")
    assert dead["attempt"] == 1
    assert all("message_id" not in one for one in told if one is not dead)


def test_an_executor_that_cannot_begin_says_so_to_machines_too(
    tmp_path: Path, sqlite_url: str
) -> None:
    away = ("--log-format", "json", "--health-port", "0")
    executor = ExecutorProcess(tmp_path, "amqp://guest:hunter2@localhost:1", sqlite_url, *away)

    executor.wait_until("Waiting for the broker")
    executor.process.send_signal(signal.SIGTERM)
    executor.process.wait(30)
    assert all(json.loads(line) for line in executor.log.read_text().splitlines())


def test_sigterm_drains_and_ends_with_success(
    tmp_path: Path, broker_url: str, sqlite_url: str
) -> None:
    executor = ExecutorProcess(tmp_path, broker_url, sqlite_url)
    executor.wait_until("with tag 'executor.manager'")

    assert executor.end(signal.SIGTERM) == 0
    said = executor.log.read_text()
    assert (
        "Consumer started for queue 'attune.executions.queue' with tag 'executor.enforcement'"
        in said
    )
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--url", "amqp://guest:guest@localhost:1/%2F"], 3, "connection refused"),
        (
            ["--rules", "nowhere.yaml"],
            2,
            "expected a file with version, actions and rules",
        ),
        (["--topology", "nowhere.yaml"], 2, "expected a topology file, found none"),
        (["--database-url", "mysql://x/y"], 2, "expected sqlite or postgresql"),
        (["--database-url", "sqlite:////no/such/folder/x.db"], 2, "does not exist"),
        (["--config", "nowhere.yaml"], 2, "expected a file with settings"),
    ],
)
def test_bad_input_ends_it_with_a_message_that_says_what_to_do(
    tmp_path: Path, broker_url: str, arguments: list[str], code: int, said: str
) -> None:
    settings_for(tmp_path, broker_url, SHIPPED)
    given = {
        "--url": broker_url,
        "--rules": str(tmp_path / "rules.yaml"),
        "--topology": str(SHIPPED),
        "--database-url": f"sqlite:///{tmp_path / 'attune.db'}",
    }
    given[arguments[0]] = arguments[1]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "attune_executor",
            "run",
            *(p for pair in given.items() for p in pair),
        ],
        env={**handed_on(), "ATTUNE_BROKER_WAIT_S": "0", "ATTUNE_HEALTH_PORT": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr

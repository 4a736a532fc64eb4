"""The command line as scripts rely on it: JSON on standard output, and exit codes."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest

from attune_mq.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
SHIPPED = str(ROOT / "topology.yaml")
PAYLOAD = '{"enforcement_id": 1, "rule_ref": "r", "trigger_ref": "t", "payload": {}}'


def run(*arguments: str) -> int:
    return main(["--topology", SHIPPED, *arguments])


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = run("--format", "json", *arguments)
    return code, json.loads(capsys.readouterr().out)


def as_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attune_mq", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
    )


def test_help_names_every_command_on_standard_output() -> None:
    done = as_process("--help")

    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in done.stdout


def test_without_a_command_help_goes_to_standard_error_and_the_code_is_2() -> None:
    done = as_process()

    assert done.returncode == 2
    assert done.stdout == ""
    assert "commands:" in done.stderr


def test_an_unknown_command_names_those_there_are() -> None:
    done = as_process("stup")

    assert done.returncode == 2
    assert "expected a command" in done.stderr
    assert "setup" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_its_own(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    assert ended.value.code == 0
    assert f"attune-mq {command}" in capsys.readouterr().out


def test_the_version_is_told() -> None:
    assert as_process("--version").stdout.startswith("attune-mq ")


def test_general_options_may_stand_before_the_command_and_after_it(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["setup", "--url", broker_url, "--topology", SHIPPED, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["created"]) == 18


def test_setup_tells_what_it_created_and_then_what_was_there(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, made = run_json(capsys, "--url", broker_url, "setup")
    second, found = run_json(capsys, "--url", broker_url, "setup")

    assert (first, second) == (0, 0)
    assert set(made) == {
        "created",
        "ensured",
        "unchanged",
        "conflicts",
        "refused",
        "invalid",
        "missing",
        "unknown",
    }
    assert {"kind": "queue", "name": "attune.events.queue"} in made["created"]
    binding = "attune.events -> attune.events.queue [#]"
    assert {"kind": "binding", "name": binding} in made["created"]
    assert [*found["unchanged"], *found["ensured"]] == made["created"]
    assert {one["kind"] for one in found["ensured"]} == {"binding"}
    assert found["created"] == []


def test_setup_names_a_conflict_by_field_and_line_and_ends_with_5(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    connection.channel().exchange_declare("attune.events", "direct", durable=True)
    connection.close()

    code, report = run_json(capsys, "--url", broker_url, "setup")

    assert code == 5
    conflict = report["conflicts"][0]
    assert conflict["where"].pop("line") > 0
    assert conflict["where"].pop("column") > 0
    assert conflict == {
        "kind": "exchange",
        "name": "attune.events",
        "field": "type",
        "expected": "topic",
        "found": "direct",
        "where": {"file": SHIPPED, "path": "exchanges.events.type"},
    }


def test_setup_of_one_instance_makes_its_queues(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = run_json(capsys, "--url", broker_url, "setup", "--instance", "worker:worker_id=7")

    assert {"kind": "queue", "name": "worker.7.executions"} in report["created"]


def test_setup_that_only_verifies_ends_with_1_where_something_is_missing(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--url", broker_url, "setup", "--verify") == 1
    assert "queue 'attune.events.queue' does not exist" in capsys.readouterr().err


def test_publish_tells_where_the_message_went(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json(capsys, "--url", broker_url, "setup")
    code, receipt = run_json(capsys, "--url", broker_url, "publish", "EnforcementCreated", PAYLOAD)

    assert code == 0
    assert len(receipt.pop("message_id")) == 36
    assert receipt == {
        "exchange": "attune.executions",
        "routing_key": "execution",
        "queues_confirmed": True,
    }


def test_publish_says_when_no_queue_takes_the_message(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    connection.channel().exchange_declare("attune.executions", "direct", durable=True)
    connection.close()

    assert run("--url", broker_url, "publish", "EnforcementCreated", PAYLOAD) == 1
    assert "no queue takes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("{", "expected a JSON object"),
        ("[]", "expected a JSON object"),
        ('{"enforcement_id": 1}', "rule_ref"),
    ],
)
def test_publish_refuses_a_payload_that_no_handler_could_read(
    payload: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("publish", "EnforcementCreated", payload) == 2
    assert said in capsys.readouterr().err


def test_a_type_that_the_file_does_not_have_names_those_it_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("publish", "EnforcementMade", "{}") == 2
    assert "EnforcementCreated" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["setup"], ["publish", "EnforcementCreated", PAYLOAD, "--timeout", "1"]]
)
def test_a_broker_that_is_not_there_ends_it_with_3_and_says_what_to_look_at(
    command: list[str],
) -> None:
    done = as_process("--url", "amqp://guest:hidden@127.0.0.1:1/%2F", *command)

    assert done.returncode == 3
    assert "connection refused; is it running" in done.stderr
    assert "hidden" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_password_ends_it_with_4(broker_url: str) -> None:
    done = as_process("--url", broker_url.replace("guest:guest", "guest:hidden"), "setup")

    assert done.returncode == 4
    assert "refuses this user and password" in done.stderr
    assert "hidden" not in done.stderr


@pytest.mark.parametrize("url", ["http://localhost", "amqp://", "amqp://h:99999/", "nonsense"])
def test_a_url_that_is_none_ends_it_with_2(url: str) -> None:
    done = as_process("--url", url, "setup")

    assert done.returncode == 2
    assert "expected a URL such as amqp://user:password@host:5672/%2F" in done.stderr


def test_a_file_with_problems_ends_it_with_2_and_names_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("version: 2\nqueus: {}\n")

    done = as_process("--topology", str(file), "setup")

    assert done.returncode == 2
    assert "t.yaml:1:1 version" in done.stderr
    assert "did you mean 'queues'?" in done.stderr


def test_the_topology_and_the_url_can_come_from_the_environment(broker_url: str) -> None:
    done = as_process("setup", ATTUNE_MQ_URL=broker_url, ATTUNE_MQ_TOPOLOGY=SHIPPED)

    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "18 created"
    assert done.stderr == ""


def test_a_private_broker_prints_its_url_and_is_gone_when_it_is_told_to_stop() -> None:
    node = subprocess.Popen(
        [sys.executable, "-m", "attune_mq", "broker"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert node.stdout is not None
    url = node.stdout.readline().strip()
    connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.close()
    node.send_signal(signal.SIGTERM)

    assert node.wait(30) == 0
    node.stdout.close()
    parts = urlsplit(url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((parts.hostname or "", parts.port or 0)).close()


def test_a_program_that_runs_commands_keeps_the_levels_of_its_logs() -> None:
    loggers = [logging.getLogger(name) for name in ("attune_mq", "pika")]
    before = [logger.level for logger in loggers]

    assert (run("show"), run("route", "--dead", "nowhere")) == (0, 2)

    assert [logger.level for logger in loggers] == before


def test_nothing_is_imported_that_help_does_not_need() -> None:
    script = (
        "import sys; sys.argv = ['attune-mq', '--help']\n"
        "from attune_mq.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'pika', 'pydantic', 'yaml', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)

    assert done.stdout.splitlines()[-1] == "[]"

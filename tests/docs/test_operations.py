"""The page on operations: a runbook of all symptoms, whose commands exist and show what is said."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import pytest
from sqlalchemy import text

from attune_executor.__main__ import main as attune_executor
from attune_executor.migrations import migrate
from attune_executor.settings import load_settings
from attune_mq import expand, load_topology
from attune_mq.broker import EmbeddedBroker
from attune_mq.broker.embedded_node import find_server
from attune_mq.cli.main import COMMANDS, main as attune_mq
from attune_mq.transactional import create_database_engine
from tests.administration import Administration, url_for, virtual_host_of
from tests.docs.markdown import DOCS, code_names, page
from tests.docs.test_links import anchors

PAGE = page("operations.md")
WHY = page("why-messages-do-not-arrive.md").rows_under("Why do messages not arrive?")
SHIPPED = str(DOCS.parent / "topology.yaml")
PARTS = ("Symptom", "Cause", "Check", "Fix")

HISTORICAL = (
    "Executions are never created",
    "A part of the messages is dead-lettered as unhandled",
    "Dead letters vanish",
    "Dead letters never expire",
    "A queue grows",
    "Messages are lost silently",
    "A binding never matches",
    "Edits to the file change nothing",
    "A service warns at its start and goes on",
    "One message is tried over and over",
    "The executor runs and does nothing",
    "Work goes to a worker that is dead",
    "Something is done twice",
)
"""What once went wrong, in the order in which it is told elsewhere."""


@dataclass(frozen=True)
class Entry:
    symptom: str
    parts: dict[str, str]

    @property
    def command(self) -> str:
        """The one that checks for the cause."""
        [only] = code_names(self.parts["Check"])
        return only

    @property
    def anchor(self) -> str:
        return re.sub(r"[^\w\- ]", "", self.symptom.lower()).replace(" ", "-")


def runbook() -> Iterator[Entry]:
    _, _, told = PAGE.text.partition("\n## Runbook\n")
    for section in told.split("\n### ")[1:]:
        symptom, _, body = section.partition("\n")
        parts = re.findall(r"(?ms)^- \*\*(\w+)\*\*: (.*?)(?=^- \*\*|\Z)", body)
        yield Entry(symptom, {name: " ".join(said.split()) for name, said in parts})


ENTRIES = {entry.anchor: entry for entry in runbook()}


def test_each_of_the_historical_symptoms_has_an_entry_and_comes_first() -> None:
    assert tuple(entry.symptom for entry in ENTRIES.values())[: len(HISTORICAL)] == HISTORICAL


def test_the_quick_page_is_one_click_from_the_first_lines_of_the_readme() -> None:
    first_lines = (DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()[:12]

    assert "(docs/why-messages-do-not-arrive.md)" in "\n".join(first_lines)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.anchor)
def test_an_entry_has_symptom_cause_check_and_fix(entry: Entry) -> None:
    assert tuple(entry.parts) == PARTS
    assert all(entry.parts.values())
    assert entry.command


@pytest.mark.parametrize("row", WHY, ids=lambda row: row["symptom"])
def test_the_quick_page_links_to_an_entry_that_checks_with_the_same_command(
    row: dict[str, str],
) -> None:
    [anchor] = re.findall(r"\[What to do\]\(operations\.md#([\w-]+)\)", row["meaning"])
    command = ENTRIES[anchor].command

    if "log" in row["command"]:
        return  # the command depends on where the log is
    [shown] = code_names(row["command"])
    assert shown.startswith(command)


def test_every_alert_and_every_entry_know_each_other_s_anchors() -> None:
    alerts = (DOCS.parent / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")

    assert set(re.findall(r"operations\.md#([\w-]+)", alerts)) <= set(ENTRIES)
    assert set(ENTRIES) <= anchors(DOCS / "operations.md")


def commands(program: str) -> list[str]:
    """Every command line of this program that the page has, in its text and in its blocks."""
    lines = [line for block in PAGE.blocks for line in block.text.splitlines()]
    around = re.sub(r"(?ms)^```.*?^```", "", PAGE.text)
    spans = [" ".join(span.split()) for span in code_names(around)]
    found = [re.split(r"  #| >/| \| ", one)[0] for one in (*spans, *lines)]
    wanted = {one for one in found if Path(one.split(" ")[0]).name == program} - {program}
    assert wanted
    return sorted(wanted)


@pytest.mark.parametrize("line", commands("attune-mq"))
def test_a_command_of_ours_can_be_said_so(line: str) -> None:
    _, command, *arguments = shlex.split(line)
    module: Any = importlib.import_module(f"attune_mq.cli.{command}")
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--management-url")  # a general option, which may stand anywhere
    module.add_arguments(parser)

    assert command in COMMANDS
    parser.parse_args(arguments)


@pytest.mark.parametrize("line", commands("attune-executor"))
def test_a_command_of_the_executor_can_be_said_so(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *arguments = shlex.split(line)

    with pytest.raises(SystemExit) as ended:
        attune_executor([*arguments, "--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    assert [one for one in arguments if one.startswith("--") and one not in listed] == []


@pytest.mark.parametrize("program", ["rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-queues"])
def test_a_command_of_rabbitmq_is_one(program: str) -> None:
    named = {shlex.split(line)[1] for line in commands(program)}
    done = subprocess.run(
        [find_server().with_name(program), "help"], capture_output=True, text=True, timeout=120
    )

    assert named - set(re.findall(r"^\s+(\w+)", done.stdout, re.MULTILINE)) == set()


def test_the_questions_to_the_database_can_be_asked(tmp_path: Path) -> None:
    statements = [shlex.split(line)[2] for line in commands("psql")]
    engine = create_database_engine(f"sqlite:///{tmp_path / 'attune.db'}")
    migrate(engine)
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement)).all()
    engine.dispose()


@pytest.mark.parametrize("line", commands("journalctl"))
def test_what_is_looked_for_in_the_log_is_what_somebody_logs(line: str) -> None:
    said = shlex.split(line)[-1]
    sources = (DOCS.parent / "attune_mq").rglob("*.py")

    assert any(said in path.read_text(encoding="utf-8") for path in sources)


@pytest.mark.parametrize("block", PAGE.blocks_of("ini"), ids=lambda block: block.line)
def test_settings_of_the_broker_are_such(block: Any, tmp_path: Path) -> None:
    config = dict(line.split(" = ") for line in block.text.splitlines())

    with EmbeddedBroker(config=config) as node:
        assert node.running


def test_the_line_that_replicates_everything_does(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    shown = next(block.text for block in PAGE.blocks_of("yaml") if "defaults" in block.text)
    file.write_text(shown + Path(SHIPPED).read_text(encoding="utf-8"), encoding="utf-8")

    queues = expand(load_topology(file)).queues.values()

    assert queues
    assert {queue.type for queue in queues} == {"quorum"}


def test_the_settings_that_are_shown_are_such(tmp_path: Path) -> None:
    file = tmp_path / "executor.yaml"
    file.write_text(next(b.text for b in PAGE.blocks_of("yaml") if "database_url" in b.text))

    assert load_settings(file).database_url.get_secret_value().startswith("postgresql://")


# --- what the commands show, on a broker to which it was done ---


def ask(command: str, url: str, *more: str) -> int:
    return attune_mq([*shlex.split(command)[1:], "--url", url, "--topology", SHIPPED, *more])


@pytest.fixture
def set_up(broker_url: str) -> str:
    assert attune_mq(["setup", "--url", broker_url, "--topology", SHIPPED]) == 0
    return broker_url


def test_dead_letters_that_arrive_are_counted(
    set_up: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pika.BlockingConnection(pika.URLParameters(set_up)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("attune.executions", "execution", b"not an envelope")
        method, _, _ = channel.basic_get("attune.executions.queue")
        assert method is not None
        channel.basic_reject(method.delivery_tag or 0, requeue=False)
    capsys.readouterr()

    ask(ENTRIES["dead-letters-arrive"].command, set_up)

    assert re.search(r"1\s+attune\.executions\.queue", capsys.readouterr().out)


def test_a_binding_that_is_missing_is_planned_to_be_made(
    set_up: str, broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    with pika.BlockingConnection(pika.URLParameters(set_up)) as connection:
        connection.channel().queue_unbind(
            "attune.executions.queue", "attune.executions", "execution"
        )
    command = ENTRIES["messages-are-unroutable"].command.partition(" --management-url")[0]
    capsys.readouterr()

    code = ask(command, set_up, "--management-url", broker.management_url or "")

    assert code == 1
    missing = r"\+ binding\s+attune\.executions -> attune\.executions\.queue \[execution\]"
    assert re.search(missing, capsys.readouterr().out)


def test_a_service_that_is_refused_is_let_in_by_the_command_that_acl_prints(
    set_up: str, broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    vhost = virtual_host_of(set_up)
    with Administration(broker).user() as user:
        url = url_for(user, set_up)
        assert ask("attune-mq setup --service executor", url) == 4
        capsys.readouterr()
        assert ask(ENTRIES["the-broker-refuses-the-service"].command, set_up) == 0
        _, command, *arguments = shlex.split(capsys.readouterr().out.splitlines()[-1])

        assert arguments[:2] == ["-p", vhost]
        broker.rabbitmqctl(command, *[user if one == "USER" else one for one in arguments])

        assert ask("attune-mq setup --service executor", url) == 0


def test_an_alarm_of_the_broker_is_named(broker: EmbeddedBroker) -> None:
    program, *arguments = shlex.split(ENTRIES["publishing-stands-still"].command)
    broker.rabbitmqctl("set_vm_memory_high_watermark", "0")
    try:
        done = subprocess.run(
            [find_server().with_name(program), "--node", broker.node_name, *arguments],
            env=dict(broker.environment),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode != 0
        assert "Memory alarm" in done.stdout + done.stderr
    finally:
        broker.rabbitmqctl("set_vm_memory_high_watermark", "0.4")


def test_a_broker_that_is_away_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    command = ENTRIES["the-broker-cannot-be-reached"].command

    assert ask(command, "amqp://guest:guest@localhost:1") == 3
    assert "connection refused" in capsys.readouterr().err


def test_an_executor_that_is_down_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATTUNE_HEALTH_PORT", "1")

    assert attune_executor(shlex.split(ENTRIES["the-executor-is-down"].command)[1:]) == 1
    assert "does not answer" in capsys.readouterr().out

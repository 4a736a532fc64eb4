"""The output that the page shows is the output of the command."""

from __future__ import annotations

import shlex

import pika
import pytest

from attune_mq.cli.main import main
from tests.docs.markdown import DOCS, code_names, page

PAGE = page("why-messages-do-not-arrive.md")
ROWS = PAGE.rows_under("Why do messages not arrive?")
FAULTY = str(DOCS.parent / "examples" / "faulty-topology.yaml")
SHIPPED = str(DOCS.parent / "topology.yaml")
NEEDS_NO_BROKER = ("lint", "route")


@pytest.fixture
def neglected_broker_url(broker_url: str) -> str:
    """A broker with one queue, declared without the TTL of the file."""
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        connection.channel().queue_declare("attune.events.queue.dlq", durable=True)
    return broker_url


def commands() -> dict[str, list[str]]:
    """The rows' commands, with all that they are said to print."""
    found: dict[str, list[str]] = {}
    for row in ROWS:
        if row["command"].startswith("`"):
            [command], [says] = code_names(row["command"]), code_names(row["output"])
            found.setdefault(command, []).append(says)
    return found


@pytest.mark.parametrize(
    "command", [one for one in commands() if one.split()[1] in NEEDS_NO_BROKER]
)
def test_a_command_without_a_broker_prints_what_is_shown_of_the_historical_faults(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*shlex.split(command)[1:], "--topology", FAULTY])
    printed = flowing(capsys.readouterr().out)

    for says in commands()[command]:
        assert says in printed


@pytest.mark.parametrize(
    "command", [one for one in commands() if one.split()[1] not in NEEDS_NO_BROKER]
)
def test_a_command_to_a_neglected_broker_prints_what_is_shown(
    command: str, neglected_broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = shlex.split(command)[1:]
    where = [] if "--url" in arguments else ["--url", neglected_broker_url]
    main([*arguments, *where, "--topology", SHIPPED])
    printed = flowing("".join(capsys.readouterr()))

    for says in commands()[command]:
        assert flowing(says) in printed


LOGGED = [code_names(row["output"])[0] for row in ROWS if "log" in row["command"]]


@pytest.mark.parametrize("says", LOGGED)
def test_a_log_text_of_the_page_is_one_of_the_code(says: str) -> None:
    sources = [*(DOCS.parent / "attune_mq").rglob("*.py"), DOCS / "tutorial.md"]
    known = " ".join(path.read_text(encoding="utf-8") for path in sources)

    assert says.replace(" 1,", " %d,") in known or says in known


def test_each_of_the_historical_faults_has_an_entry() -> None:
    assert len(ROWS) == 15  # the thirteen, an unreachable broker, and a paused consumer


def flowing(text: str) -> str:
    """Without the breaks of lines and the columns of tables."""
    return " ".join(text.split())

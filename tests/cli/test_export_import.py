"""``attune-mq export`` and ``import``: there and back, by file and by a broker."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.definitions import export_definitions
from attune_mq.topology.loading import parse_topology
from attune_mq.topology_file import load_topology
from tests.cli.running import Run, runner
from tests.definitions.definitions_on_broker import objects_of
from tests.versions import Rabbit

SHIPPED = Path(__file__).parents[2] / "topology.yaml"
FIXTURES = Path(__file__).parents[1] / "definitions" / "fixtures"
ENTRY = [sys.executable, "-c", "import sys; from attune_mq.cli.main import main; sys.exit(main())"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys, "--topology", str(SHIPPED))


def attune_mq(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*ENTRY, *arguments], input=given, capture_output=True, check=False, timeout=60
    )


def test_the_commands_go_there_and_back_through_a_pipe() -> None:
    exported = attune_mq("export", "--topology", str(SHIPPED), "--to", "definitions")
    imported = attune_mq("import", "--from", "definitions", "-", given=exported.stdout)

    assert (exported.returncode, imported.returncode) == (0, 0)
    back = export_definitions(parse_topology(imported.stdout.decode()))
    assert objects_of(back) == objects_of(json.loads(exported.stdout))


def test_what_definitions_cannot_hold_is_named_on_standard_error(run: Run) -> None:
    ran = run("export")

    assert ran.code == 0
    assert set(ran.json) == {"exchanges", "queues", "bindings"}
    assert ran.err == (
        "attune-mq: not exported: family 'worker': it exists for each worker_id, once it is "
        "instantiated\n"
    )


def test_the_virtual_host_of_the_export_can_be_chosen(run: Run) -> None:
    exported = run("export", "--vhost", "shop").json

    assert {each["vhost"] for section in exported.values() for each in section} == {"shop"}


def test_what_cannot_be_said_is_named_on_standard_error_and_at_the_top(run: Run) -> None:
    ran = run("import", str(FIXTURES / "undeclared-ends.json"))

    assert ran.code == 0
    assert ran.err.splitlines()[0] == (
        "attune-mq: not imported: binding orders -> labels [b]: there is no queue 'labels'"
    )
    assert "# - binding orders -> labels [b]: there is no queue 'labels'\n" in ran.out
    assert list(parse_topology(ran.out).queues) == ["invoices"]


def test_as_json_the_topology_stands_beside_what_cannot_be_said(run: Run) -> None:
    ran = run("import", "--format", "json", str(FIXTURES / "undeclared-ends.json"))

    assert ran.json["unsaid"][0] == "binding orders -> labels [b]: there is no queue 'labels'"
    assert parse_topology(json.dumps(ran.json["topology"])).exchanges["orders"].type == "topic"


def test_the_virtual_host_of_the_import_can_be_chosen(run: Run) -> None:
    file = str(FIXTURES / "several-virtual-hosts.json")

    assert list(parse_topology(run("import", file, "--vhost", "shop").out).queues) == [
        "labels",
        "parcels",
    ]
    refused = run("import", file, "--vhost", "spam")
    assert (refused.code, refused.out) == (2, "")
    assert f"{file} vhosts: expected the virtual host 'spam'" in refused.err


def test_standard_input_is_read_for_a_dash(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(b'{"queues": [{"name": 1}]}')
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))

    ran = run("import", "-")

    assert (ran.code, ran.out) == (2, "")
    assert "<stdin> queues[0].name: expected a text, got 1" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import"], "expected a file with definitions JSON"),
        (["import", "/nonexistent.json"], "/nonexistent.json: cannot be read: No such file"),
        (["import", "/"], "/: cannot be read: Is a directory"),
        (["import", "--from", "broker"], "requires RabbitMQ's HTTP API"),
        (["import", "--from", "broker", "x.json"], "expected no file, got 'x.json'"),
    ],
)
def test_wrong_arguments_are_answered_with_what_was_expected(
    run: Run, arguments: list[str], message: str
) -> None:
    ran = run(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


# a real broker


def test_what_was_set_up_is_imported_from_the_broker_as_it_was(
    broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topology = load_topology(SHIPPED)
    setup_infrastructure(topology, broker_url)
    run = runner(capsys, "--url", broker_url, "--management-url", broker.management_url or "")

    ran = run("import", "--from", "broker")

    assert ran.code == 0
    imported = parse_topology(ran.out)
    stored = Rabbit.of(broker).stored(export_definitions(topology))
    assert objects_of(export_definitions(imported)) == objects_of(stored)
    assert imported.broker is not None
    assert imported.broker.version == broker.version


def test_another_virtual_host_of_the_broker_can_be_asked_for(
    broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_infrastructure(load_topology(SHIPPED), broker_url)
    run = runner(capsys, "--url", broker.url, "--management-url", broker.management_url or "")

    ran = run("import", "--from", "broker", "--vhost", unquote(urlsplit(broker_url).path[1:]))

    assert len(parse_topology(ran.out).queues) == 6


def test_a_broker_without_the_http_api_is_unreachable(
    broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(capsys, "--url", broker_url, "--management-url", "http://127.0.0.1:1")

    ran = run("import", "--from", "broker")

    assert (ran.code, ran.out) == (3, "")

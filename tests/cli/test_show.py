"""``attune-mq show``: the whole topology, which is a topology file itself."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from attune_mq import expand, parse_topology
from attune_mq.topology import topology_schema
from tests.cli.running import Run, runner

FILE = """\
version: 1
dead_letter: {exchange: dlx}
exchanges:
  in:  {name: in, type: topic}
  dlx: {name: dlx, type: fanout}
queues:
  work: {name: work, retry: {backoff: [10s]}}
bindings:
  - {source: in, destination: work, routing_keys: [a, b]}
families:
  worker:
    parameters: [id]
    queues: {own: {name: "worker.{id}"}}
"""


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    file = tmp_path / "topology.yaml"
    file.write_text(FILE)
    return runner(capsys, "--topology", str(file))


def test_the_command_prints_a_topology_file_that_says_the_same() -> None:
    command = str(Path(sys.executable).with_name("attune-mq"))
    shipped = Path(__file__).parents[2] / "topology.yaml"

    shown = subprocess.run(
        [command, "show", "--topology", str(shipped)], capture_output=True, check=True, timeout=60
    )

    printed = parse_topology(shown.stdout.decode())
    assert printed == expand(parse_topology(shipped.read_text("utf-8")))
    assert shown.stderr == b""


def test_what_the_library_adds_has_a_comment_that_says_what_led_to_it(run: Run) -> None:
    lines = run("show").out.splitlines()

    added = {
        following.strip().partition(":")[0]: line.strip()
        for line, following in pairwise(lines)
        if line.strip().startswith("# added")
    }
    assert added["dlx.direct"] == "# added: for exchanges.dlx in line 5"
    assert added["work.dlq"] == "# added: for dead_letter in line 2"
    assert added["work.retry.10s"] == "# added: for queues.work.retry.backoff in line 7"
    assert added["own.dlq"] == "# added: for dead_letter in line 2"


def test_what_stands_in_the_file_has_no_such_comment(run: Run) -> None:
    lines = [line.strip() for line in run("show").out.splitlines()]

    commented = [following for line, following in pairwise(lines) if line.startswith("# added")]
    assert len(commented) == 7
    for written in ("in:", "dlx:", "work:", "own:", "- {source: in,"):
        assert any(line.startswith(written) for line in lines)
        assert not any(line.startswith(written) for line in commented)


def test_what_is_shown_can_be_shown_again(run: Run, tmp_path: Path) -> None:
    shown = run("show").out
    again = tmp_path / "shown.yaml"
    again.write_text(shown)

    assert parse_topology(run("show", "--topology", str(again)).out) == parse_topology(shown)


def test_as_json_it_is_the_expanded_topology(run: Run) -> None:
    shown = run("show", "--format", "json")

    assert shown.code == 0
    assert shown.json["queues"]["work.dlq"]["ttl"] == "24h"
    assert shown.json["families"]["worker"]["queues"]["own.dlq"]["name"] == "worker.{id}.dlq"
    assert parse_topology(shown.out) == expand(parse_topology(FILE))


def test_the_schema_is_printed_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    ran = runner(capsys, "--topology", "/nonexistent")("show", "--schema")

    assert (ran.code, ran.json) == (0, topology_schema())


def test_a_faulty_file_is_reported_with_its_line_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "faulty.yaml"
    file.write_text("version: 1\nqueues:\n  q: {nam: q}\n")

    ran = runner(capsys, "--topology", str(file))("show", "--format", "json")

    assert (ran.code, ran.out) == (2, "")
    assert "faulty.yaml:3:7" in ran.err


def test_the_json_of_the_shipped_file_is_one_document_on_standard_output() -> None:
    shipped = Path(__file__).parents[2] / "topology.yaml"
    command = [
        sys.executable,
        "-c",
        "import sys; from attune_mq.cli.main import main; sys.exit(main())",
    ]

    shown = subprocess.run(
        [*command, "--format", "json", "--topology", str(shipped), "show"],
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert set(json.loads(shown.stdout)) >= {
        "version",
        "exchanges",
        "queues",
        "bindings",
        "families",
    }

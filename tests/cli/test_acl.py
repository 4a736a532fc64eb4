"""``attune-mq acl SERVICE``: no broker is asked."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.running import Run, runner

FILE = """\
version: 1
exchanges:
  in: {name: x.in, type: topic}
queues:
  work: {name: q.work}
bindings:
  - {source: in, destination: work, routing_key: "a.#"}
messages:
  ExecutionRequested: {exchange: in, routing_key: a.b, publishers: [sender]}
consumers:
  worker: {service: works, queue: work}
"""


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    path = tmp_path / "topology.yaml"
    path.write_text(FILE)
    return runner(capsys, "--topology", str(path), "--url", "amqp://localhost/my%2Fvhost")


def test_the_json_has_three_patterns(run: Run) -> None:
    ran = run("acl", "works", "--format", "json")

    assert ran.code == 0
    assert ran.json == {
        "configure": r"^(q\.work|x\.in)$",
        "write": r"^(amq\.default|q\.work)$",
        "read": r"^(q\.work|x\.in)$",
    }


def test_who_only_publishes_reads_nothing(run: Run) -> None:
    ran = run("acl", "sender", "--format", "json")
    assert ran.json == {"configure": r"^(x\.in)$", "write": r"^(x\.in)$", "read": "^$"}


def test_who_verifies_configures_nothing(run: Run) -> None:
    for version, read in (("4.0", r"^(q\.work)$"), ("4.3", r"^(q\.work|x\.in)$")):
        ran = run("acl", "works", "--verify", "--rabbitmq", version, "--format", "json")
        assert ran.json == {"configure": "^$", "write": r"^(amq\.default)$", "read": read}


def test_people_read_the_command_that_grants_it(run: Run) -> None:
    last = run("acl", "works").out.splitlines()[-1]

    assert shlex.split(last) == [
        "rabbitmqctl",
        "set_permissions",
        "-p",
        "my/vhost",
        "USER",
        r"^(q\.work|x\.in)$",
        r"^(amq\.default|q\.work)$",
        r"^(q\.work|x\.in)$",
    ]


def test_why_says_what_asks_for_each(run: Run) -> None:
    out = run("acl", "works", "--why").out

    assert r"read       x\.in  binds x.in -> q.work [a.#]" in out
    assert r"write      amq\.default  retries what worker could not handle" in out


def test_a_service_that_the_file_does_not_name_is_wrong_input(run: Run) -> None:
    ran = run("acl", "work")

    assert (ran.code, ran.out) == (2, "")
    assert "expected a service of the file (sender, works), got 'work'" in ran.err

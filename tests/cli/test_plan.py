"""``attune-mq plan``: its JSON, its exit codes, and what people read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.topology.families import instantiate
from attune_mq.topology_file import load_topology
from tests.cli.running import Run, runner

FILE = """\
version: 1
exchanges:
  in: {name: x.in, type: topic}
queues:
  work: {name: q.work, ttl: 5m}
  note: {name: q.note, arguments: {x-foo: 1}}
bindings:
  - {source: in, destination: work, routing_key: "a.#"}
consumers:
  noter: {service: notes, queue: note}
families:
  worker:
    parameters: [id]
    queues:
      own: {name: "worker.{id}"}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "topology.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def by_amqp(file: Path, broker_url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys, "--topology", str(file), "--url", broker_url)


@pytest.fixture
def by_management(
    file: Path, broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> Run:
    api = broker.management_url or ""
    return runner(capsys, "--topology", str(file), "--url", broker_url, "--management-url", api)


@pytest.fixture
def channel(broker_url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    yield connection.channel()
    connection.close()


OBJECTS = [
    {"kind": "exchange", "name": "x.in"},
    {"kind": "queue", "name": "q.work"},
    {"kind": "queue", "name": "q.note"},
    {"kind": "binding", "name": "x.in -> q.work [a.#]"},
]


@pytest.mark.parametrize("source", ["amqp", "management"])
def test_on_an_empty_broker_all_is_to_be_created(source: str, by_amqp: Run,
                                                 by_management: Run) -> None:  # fmt: skip
    run = by_amqp if source == "amqp" else by_management

    ran = run("plan", "--format", "json")

    assert ran.code == 1
    assert ran.json == {
        "create": OBJECTS,
        "unchanged": [],
        "conflicts": [],
        "extra": [],
        "source": source,
        "unknown": [],
    }


def test_after_set_up_there_is_nothing_to_do(
    file: Path, broker_url: str, by_amqp: Run, by_management: Run
) -> None:
    setup_infrastructure(file, broker_url)

    over_amqp, over_http = by_amqp("plan", "--format", "json"), by_management("plan")

    assert over_amqp.code == over_http.code == 0
    assert over_amqp.json["unchanged"] == OBJECTS[:2]
    assert over_amqp.json["unknown"] == [
        OBJECTS[2] | {"why": "amqp", "detail": "it exists; RabbitMQ does not compare its x-foo"},
        OBJECTS[3] | {"why": "amqp", "detail": "AMQP cannot list bindings"},
    ]
    assert over_http.out == "4 unchanged. Seen over the HTTP API.\n"


def test_a_conflict_has_field_expected_found_and_where_and_exit_code_5(
    by_amqp: Run, by_management: Run, file: Path, channel: BlockingChannel
) -> None:
    channel.queue_declare("q.work", durable=True, arguments={"x-message-ttl": 1000})

    for run in (by_amqp, by_management):
        ran = run("plan", "--format", "json")
        assert ran.code == 5
        assert ran.json["conflicts"] == [
            {
                "kind": "queue",
                "name": "q.work",
                "field": "x-message-ttl",
                "expected": "300000",
                "found": "1000",
                "where": {"file": str(file), "line": 5, "column": 24, "path": "queues.work.ttl"},
            }
        ]


def test_extra_objects_are_differences(
    by_management: Run, file: Path, broker_url: str, channel: BlockingChannel
) -> None:
    setup_infrastructure(file, broker_url)
    channel.queue_declare("other")

    ran = by_management("plan", "--format", "json")

    assert ran.code == 1
    assert ran.json["extra"] == [{"kind": "queue", "name": "other"}]


def test_an_argument_that_the_broker_ignores_is_no_difference_but_is_said(
    by_management: Run, file: Path, broker_url: str, channel: BlockingChannel
) -> None:
    channel.queue_declare("q.note", durable=True)
    setup_infrastructure(file, broker_url)

    ran = by_management("plan", "--format", "json")

    assert ran.code == 0
    [note] = [one for one in ran.json["unchanged"] if one["name"] == "q.note"]
    [ignored] = note["ignored"]
    assert (ignored["field"], ignored["expected"], ignored["found"]) == ("x-foo", "1", "none")
    assert ignored["where"]["line"] == 6


def test_it_reads_like_a_diff_with_the_line_of_the_file(
    by_management: Run, channel: BlockingChannel
) -> None:
    channel.queue_declare("q.work", durable=False, arguments={"x-message-ttl": 1000})
    channel.queue_declare("q.note", durable=True)
    channel.queue_declare("other\x1b[31m")

    ran = by_management("plan")

    assert (
        ran.out
        == """\
+ exchange x.in (topic)         topology.yaml:3
+ binding  x.in -> q.work [a.#] topology.yaml:8
~ queue    q.work
    - durable: false
    + durable: true             topology.yaml:5
    - x-message-ttl: 1000
    + x-message-ttl: 300000     topology.yaml:5
    to resolve it: `attune-mq migrate q.work`
! queue    q.note               topology.yaml:6
    x-foo: 1 in the file, none on the broker, which ignores this argument here
* queue    other\\x1b[31m        not in the file
2 to create, 1 unchanged, 1 in conflict, 1 with an argument that the broker ignores, 1 extra. \
Seen over the HTTP API.
"""
    )


def test_over_amqp_it_lists_what_it_cannot_see(by_amqp: Run, file: Path, broker_url: str) -> None:
    setup_infrastructure(file, broker_url)

    assert (
        by_amqp("plan").out
        == """\
? queue    q.note               topology.yaml:6  it exists; RabbitMQ does not compare its x-foo
? binding  x.in -> q.work [a.#] topology.yaml:8  AMQP cannot list bindings
2 unchanged, 2 unknown. \
Seen over AMQP only; --management-url also shows bindings and extra objects.
"""
    )


def test_colour_is_for_terminals(
    by_amqp: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = by_amqp("plan").out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = by_amqp("plan").out
    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b" not in plain
    assert coloured.startswith("\x1b[32m+ exchange x.in (topic)")
    assert by_amqp("plan").out == plain


def test_the_plan_for_a_service_and_for_an_instance_of_a_family(
    by_amqp: Run, file: Path, broker_url: str
) -> None:
    of_service = by_amqp("plan", "--service", "notes", "--format", "json")
    assert of_service.json["create"] == [{"kind": "queue", "name": "q.note"}]

    setup_infrastructure(instantiate(load_topology(file), "worker", id=7), broker_url)
    there = by_amqp("plan", "--instance", "worker:id=7", "--format", "json")
    missing = by_amqp("plan", "--instance", "worker:id=8", "--format", "json")
    assert (there.code, there.json["unchanged"]) == (0, [{"kind": "queue", "name": "worker.7"}])
    assert (missing.code, missing.json["create"]) == (1, [{"kind": "queue", "name": "worker.8"}])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--service", "note"], "expected a service of the file (notes)"),
        (["--instance", "worker"], "expected the parameters id"),
        (["--instance", "worker:7"], "expected FAMILY:NAME=VALUE"),
        (["--instance", "job:id=7"], "expected an entry 'job'"),
    ],
)
def test_what_the_file_does_not_have_is_wrong_input(
    by_amqp: Run, arguments: list[str], text: str
) -> None:
    ran = by_amqp("plan", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert text in ran.err


def test_a_broker_that_is_away_a_login_that_is_refused_and_an_api_that_is_none(
    file: Path, broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    general = ("--topology", str(file))
    wrong = broker_url.replace("guest:guest", "guest:s3cret")
    no_api = f"http://guest:guest@127.0.0.1:{broker.port}"
    wrong_login = (broker.management_url or "").replace("guest:guest", "guest:s3cret")

    for code, options in (
        (3, ("--url", "amqp://localhost:1")),
        (4, ("--url", wrong)),
        (4, ("--url", broker_url, "--management-url", wrong_login)),
        (4, ("--url", f"{broker_url}-not", "--management-url", broker.management_url or "")),
        (3, ("--url", broker_url, "--management-url", "http://localhost:1")),
        (2, ("--url", broker_url, "--management-url", f"{broker.management_url}/elsewhere")),
        (2, ("--url", broker_url, "--management-url", "localhost:15672")),
    ):
        ran = runner(capsys, *general, *options)("plan", "--format", "json")
        assert (ran.code, ran.out) == (code, ""), (options, ran.err)
        assert ran.err.startswith("attune-mq: ")
        assert "s3cret" not in ran.err
    assert runner(capsys, *general, "--management-url", no_api)("plan").code in (2, 3)

"""``attune-mq check``: for probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from tests.cli.running import Ran, Run, runner

FILE = """\
version: 1
exchanges:
  in: {name: x.in, type: topic}
queues:
  work: {name: q.work}
  note: {name: q.note}
  mine: {name: "", exclusive: true, auto_delete: true}
bindings:
  - {source: in, destination: work, routing_key: "a.#"}
consumers:
  work.a: {service: works, queue: work}
  work.b: {service: works, queue: work}
  noter:  {service: notes, queue: note}
  own:    {service: owns,  queue: mine}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "topology.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def by_amqp(file: Path, broker_url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys, "--topology", str(file), "--url", broker_url, "--format", "json")


@pytest.fixture
def by_management(
    file: Path, broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> Run:
    options = ("--url", broker_url, "--management-url", broker.management_url or "")
    return runner(capsys, "--topology", str(file), *options, "--format", "json")


@pytest.fixture
def channel(broker_url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    yield connection.channel()
    connection.close()


@pytest.fixture
def _set_up(file: Path, broker_url: str) -> None:
    setup_infrastructure(file, broker_url)


def consume(channel: BlockingChannel, queue: str, tag: str) -> None:
    channel.basic_consume(queue, lambda *_: None, consumer_tag=tag)


def presence(ran: Ran) -> dict[str, Any]:
    return {one["tag"]: one["present"] for one in ran.json["consumers"]}


def eventually(run: Callable[[], Ran], holds: Callable[[Ran], bool]) -> Ran:
    """The API lists a new consumer a moment later than the consumer knows."""
    deadline = time.monotonic() + 20
    while not holds(ran := run()):
        assert time.monotonic() < deadline, f"still not so: {ran.out}"
        time.sleep(0.05)
    return ran


def test_on_an_empty_broker_everything_is_missing(by_amqp: Run) -> None:
    ran = by_amqp("check")

    assert ran.code == 1
    assert ran.json["healthy"] is False
    assert ran.json["missing"] == [
        {"kind": "exchange", "name": "x.in"},
        {"kind": "queue", "name": "q.work"},
        {"kind": "queue", "name": "q.note"},
        {"kind": "binding", "name": "x.in -> q.work [a.#]"},
    ]
    assert ran.json["conflicts"] == []
    assert ran.json["consumers"] == [
        {"tag": "work.a", "queue": "q.work", "present": False},
        {"tag": "work.b", "queue": "q.work", "present": False},
        {"tag": "noter", "queue": "q.note", "present": False},
        {"tag": "own", "queue": "", "present": None},
    ]


@pytest.mark.usefixtures("_set_up")
def test_with_everything_there_and_consumed_it_is_healthy(
    by_amqp: Run, by_management: Run, channel: BlockingChannel
) -> None:
    mine = channel.queue_declare("", exclusive=True).method.queue
    for queue, tag in (("q.work", "work.a"), ("q.work", "work.b@host-1"), ("q.note", "noter")):
        consume(channel, queue, tag)
    consume(channel, str(mine), "own")

    over_amqp = by_amqp("check")
    over_http = eventually(lambda: by_management("check"), lambda ran: ran.code == 0)

    assert (over_amqp.code, over_amqp.json["healthy"]) == (0, True)
    assert presence(over_amqp) == {"work.a": True, "work.b": True, "noter": True, "own": None}
    assert presence(over_http) == {"work.a": True, "work.b": True, "noter": True, "own": True}


@pytest.mark.usefixtures("_set_up")
def test_over_amqp_all_consumers_of_a_queue_count_as_absent_where_one_is_lacking(
    by_amqp: Run, channel: BlockingChannel
) -> None:
    consume(channel, "q.work", "work.a")
    assert presence(by_amqp("check", "--service", "works")) == {"work.a": False, "work.b": False}


@pytest.mark.usefixtures("_set_up")
def test_over_the_http_api_the_one_that_is_lacking_is_named(
    by_management: Run, channel: BlockingChannel
) -> None:
    for tag in ("work.a", "work.bb", "noter"):
        consume(channel, "q.work", tag)

    ran = eventually(lambda: by_management("check"), lambda ran: presence(ran)["work.a"] is True)

    assert ran.code == 1
    assert presence(ran) == {"work.a": True, "work.b": False, "noter": False, "own": False}


@pytest.mark.usefixtures("_set_up")
def test_of_a_service_only_its_own_part_counts(by_amqp: Run, channel: BlockingChannel) -> None:
    consume(channel, "q.note", "noter")
    channel.exchange_delete("x.in")

    ran = by_amqp("check", "--service", "notes")

    assert (ran.code, ran.json["healthy"]) == (0, True)
    assert presence(ran) == {"noter": True}


def test_a_missing_binding_is_seen_over_the_http_api(
    by_amqp: Run, by_management: Run, file: Path, broker_url: str, channel: BlockingChannel
) -> None:
    setup_infrastructure(file, broker_url)
    channel.queue_unbind("q.work", "x.in", "a.#")

    missing = by_management("check").json["missing"]

    assert missing == [{"kind": "binding", "name": "x.in -> q.work [a.#]"}]
    assert by_amqp("check").json["missing"] == []


def test_something_different_is_a_conflict_and_exit_code_5(
    by_amqp: Run, file: Path, channel: BlockingChannel
) -> None:
    channel.exchange_declare("x.in", "direct", durable=True)

    ran = by_amqp("check")

    assert (ran.code, ran.json["healthy"]) == (5, False)
    [conflict] = ran.json["conflicts"]
    assert conflict == {
        "kind": "exchange",
        "name": "x.in",
        "field": "type",
        "expected": "topic",
        "found": "direct",
        "where": {"file": str(file), "line": 3, "column": 20, "path": "exchanges.in.type"},
    }


def test_people_read_what_is_wrong(
    file: Path, broker_url: str, channel: BlockingChannel, capsys: pytest.CaptureFixture[str]
) -> None:
    channel.queue_declare("q.note", durable=False)
    run = runner(capsys, "--topology", str(file), "--url", broker_url)

    assert (
        run("check", "--service", "notes").out
        == f"""\
different  queue q.note  durable: expected true, found false  ({file}:6)
consumer   noter on q.note is not connected
not healthy
"""
    )
    channel.queue_delete("q.note")
    assert (
        run("check", "--service", "notes").out
        == f"""\
missing    queue q.note  ({file}:6)
consumer   noter on q.note is not connected
not healthy
"""
    )


def test_a_broker_that_is_away_has_exit_code_3(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = runner(capsys, "--topology", str(file), "--url", "amqp://localhost:1")("check")
    assert (ran.code, ran.out) == (3, "")

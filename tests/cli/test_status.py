"""``attune-mq status``: what it marks, what it cannot see, and how it watches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.observation import ObservedQueue
from attune_mq.broker.status import QueueReport, QueueStatus
from attune_mq.cli import status
from attune_mq.cli.status import clipped, table
from attune_mq.topology.families import instantiate
from attune_mq.topology_file import load_topology
from tests.cli.running import Ran, Run, runner
from tests.cli.terminal import Terminal, rows_of
from tests.messaging.bench import Bench
from tests.messaging.proxy import Proxy

FILE = """\
version: 1
dead_letter: {exchange: ""}
queues:
  work: {name: q.work, retry: {backoff: [1h]}}
  note: {name: q.note, dead_letter: false}
  mine: {name: "", exclusive: true, auto_delete: true}
consumers:
  work.a: {service: works, queue: work}
  work.b: {service: works, queue: work}
families:
  worker:
    parameters: [id]
    queues: {own: {name: "worker.{id}"}}
    consumers: {"worker-{id}": {service: worker, queue: own}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "topology.yaml"
    path.write_text(FILE)
    return str(path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """People give a queue a second to grow; nothing here grows but where a test makes it."""
    monkeypatch.setattr(status, "BETWEEN_SAMPLES_S", 0.02)


@pytest.fixture
def bench(broker_url: str, file: str) -> Iterator[Bench]:
    setup_infrastructure(file, broker_url)
    bench = Bench(broker_url)
    yield bench
    bench.close()


@pytest.fixture
def by_amqp(file: str, broker_url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys, "--topology", file, "--url", broker_url)


@pytest.fixture
def by_management(
    file: str, broker: EmbeddedBroker, broker_url: str, capsys: pytest.CaptureFixture[str]
) -> Run:
    options = ("--url", broker_url, "--management-url", broker.management_url or "")
    return runner(capsys, "--topology", file, *options)


def consume(bench: Bench, queue: str, tag: str) -> None:
    bench.connection.channel().basic_consume(queue, lambda *_: None, consumer_tag=tag)


def queue_of(ran: Ran, name: str) -> dict[str, Any]:
    [one] = [queue for queue in ran.json["queues"] if queue["queue"] == name]
    assert isinstance(one, dict)
    return one


def eventually(run: Callable[[], Ran], holds: Callable[[Ran], bool]) -> Ran:
    """The HTTP API tells a moment later what the broker knows."""
    deadline = time.monotonic() + 30
    while not holds(ran := run()):
        assert time.monotonic() < deadline, f"still not so: {ran.out}"
    return ran


# What it sees.


def test_all_is_well_where_each_queue_has_its_consumers_and_no_dead_letters(
    by_amqp: Run, bench: Bench
) -> None:
    consume(bench, "q.work", "work.a")
    consume(bench, "q.work", "work.b@host-1")
    bench.put("q.note", b"{}")

    ran = by_amqp("status", "--format", "json")

    assert ran.code == 0
    assert [queue["queue"] for queue in ran.json["queues"]] == ["q.work", "q.note"]
    assert queue_of(ran, "q.work") == {
        "queue": "q.work",
        "messages": 0,
        "consumers": 2,
        "unacknowledged": None,
        "tags": None,
        "dead_letters": 0,
        "waiting": 0,
        "published_per_s": None,
        "delivered_per_s": None,
        "change_per_s": 0.0,
        "problems": [],
    }
    assert queue_of(ran, "q.note")["messages"] == 1
    assert queue_of(ran, "q.note")["dead_letters"] is None


def test_over_amqp_it_says_what_it_cannot_see(by_amqp: Run, bench: Bench) -> None:
    ran = by_amqp("status", "--format", "json")

    assert ran.json["source"] == "amqp"
    unseen = " ".join(ran.json["unseen"])
    for word in ("mine", "not named", "worker"):
        assert word in unseen


def test_over_the_http_api_consumers_have_their_tags_and_messages_are_held(
    by_management: Run, bench: Bench
) -> None:
    consume(bench, "q.work", "work.a")
    consume(bench, "q.work", "work.b@host-1")
    bench.put("q.work", b"{}")

    ran = eventually(
        lambda: by_management("status", "--format", "json"),
        lambda ran: (
            queue_of(ran, "q.work")["unacknowledged"] == 1
            and queue_of(ran, "q.work")["published_per_s"] is not None
        ),
    )

    assert ran.json["source"] == "management"
    assert queue_of(ran, "q.work")["tags"] == ["work.a", "work.b@host-1"]
    assert queue_of(ran, "q.work")["problems"] == []
    assert len(ran.json["unseen"]) == 1
    assert "mine" in ran.json["unseen"][0]


def test_over_the_http_api_instances_of_families_are_there(
    by_management: Run, bench: Bench, file: str
) -> None:
    setup_infrastructure(instantiate(load_topology(file), "worker", id=7), bench.url)
    bench.put("worker.7.dlq", b"{}")

    worker = queue_of(by_management("status", "--format", "json"), "worker.7")

    assert worker["dead_letters"] == 1
    assert worker["problems"][0] == "has no consumer; missing: worker-7"


def test_a_retry_is_seen_as_waiting(by_amqp: Run, bench: Bench) -> None:
    bench.put("q.work.retry.1h", b"{}")
    assert queue_of(by_amqp("status", "--format", "json"), "q.work")["waiting"] == 1


# What it marks.


def test_a_queue_that_is_consumed_and_has_no_consumer_is_marked(
    by_amqp: Run, by_management: Run, bench: Bench
) -> None:
    for run in (by_amqp, by_management):
        ran = run("status", "--format", "json")
        assert ran.code == 1
        assert queue_of(ran, "q.work")["problems"] == ["has no consumer; missing: work.a, work.b"]
        assert queue_of(ran, "q.note")["problems"] == []


def test_a_consumer_that_is_missing_is_named_where_it_can_be(
    by_amqp: Run, by_management: Run, bench: Bench
) -> None:
    consume(bench, "q.work", "work.b@host-1")

    counted = queue_of(by_amqp("status", "--format", "json"), "q.work")
    named = eventually(
        lambda: by_management("status", "--format", "json"),
        lambda ran: queue_of(ran, "q.work")["tags"] == ["work.b@host-1"],
    )

    assert counted["problems"] == ["has 1 of 2 consumers: not all of work.a, work.b"]
    assert queue_of(named, "q.work")["problems"] == ["has 1 of 2 consumers; missing: work.a"]


def test_dead_letters_are_marked(by_amqp: Run, bench: Bench) -> None:
    bench.put("q.work.dlq", b"{}")

    work = queue_of(by_amqp("status", "--format", "json"), "q.work")

    assert work["dead_letters"] == 1
    assert "1 dead letter: attune-mq dlq show q.work" in work["problems"]


def test_a_queue_of_the_file_for_dead_letters_is_marked_where_nobody_handles_them(
    broker_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shared.yaml"
    path.write_text("""
version: 1
dead_letter: {to: dlx}
exchanges: {dlx: {name: dlx, type: fanout}}
queues: {work: {name: work}, dead: {name: dead, dead_letter: false}}
bindings: [{source: dlx, destination: dead}]
""")
    setup_infrastructure(path, broker_url)
    bench = Bench(broker_url)
    bench.put("dead", b"{}")
    bench.close()
    run = runner(capsys, "--topology", str(path), "--url", broker_url)

    ran = run("status", "--format", "json")

    assert ran.code == 1
    assert queue_of(ran, "dead")["problems"] == ["1 dead letter: attune-mq dlq show dead"]
    assert queue_of(ran, "work")["problems"] == []


def test_what_is_missing_is_marked(by_amqp: Run, bench: Bench) -> None:
    bench.channel.queue_delete("q.note")
    bench.channel.queue_delete("q.work.dlq")

    ran = by_amqp("status", "--format", "json")

    note = queue_of(ran, "q.note")
    assert (ran.code, note["messages"], note["consumers"]) == (1, None, None)
    assert note["problems"] == ["is missing"]
    assert "q.work.dlq is missing" in queue_of(ran, "q.work")["problems"]


def test_what_the_broker_does_not_let_us_see_is_said_and_not_taken_for_missing(
    by_amqp: Run, bench: Bench
) -> None:
    bench.channel.queue_delete("q.note")
    bench.channel.queue_declare("q.note", exclusive=True)

    ran = by_amqp("status", "--format", "json")

    assert queue_of(ran, "q.note")["problems"] == []
    assert queue_of(ran, "q.note")["messages"] is None
    assert any("refuses to tell about queue 'q.note'" in one for one in ran.json["unseen"])


def test_a_queue_that_grows_and_grows_is_marked(file: str, bench: Bench) -> None:
    arguments = ("--topology", file, "--url", bench.url, "--format", "json")

    with Terminal("status", "--watch", "--interval", "0.1", *arguments) as terminal:
        terminal.wait_for('"queues"')
        deadline = time.monotonic() + 30
        while "grows by" not in terminal.drawn:
            assert time.monotonic() < deadline, terminal.drawn
            bench.put("q.note", b"{}")

    grown = [json.loads(row) for row in rows_of(terminal.drawn) if "grows by" in row]
    note = next(queue for queue in grown[0]["queues"] if queue["queue"] == "q.note")
    assert note["change_per_s"] > 1
    assert note["problems"][0].startswith("grows by ")


def test_a_queue_that_is_long_but_does_not_grow_is_not(by_amqp: Run, bench: Bench) -> None:
    for _ in range(20):
        bench.put("q.note", b"{}")
    assert queue_of(by_amqp("status", "--format", "json"), "q.note")["problems"] == []


# Where something is away.


def test_without_the_http_api_it_goes_on_over_amqp_and_says_why(by_amqp: Run, bench: Bench) -> None:
    away = ("--management-url", "http://guest:guest@127.0.0.1:1")
    ran = by_amqp("status", "--format", "json", *away)

    assert ran.json["source"] == "amqp"
    assert queue_of(ran, "q.work")["messages"] == 0
    assert any("connection refused" in sentence for sentence in ran.json["unseen"])
    assert "guest:guest" not in ran.out


def test_a_broker_that_is_away_has_exit_code_3(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(capsys, "--topology", file, "--url", "amqp://localhost:1")
    for arguments in ((), ("--watch",)):
        ran = run("status", *arguments)
        assert (ran.code, ran.out) == (3, "")


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf"])
def test_an_interval_that_is_none_has_exit_code_2(interval: str, by_amqp: Run) -> None:
    assert by_amqp("status", "--watch", f"--interval={interval}").code == 2


# What people read.


def test_people_read_a_table_and_below_a_queue_what_is_wrong(by_amqp: Run, bench: Bench) -> None:
    bench.put("q.work.dlq", b"{}")

    assert (
        by_amqp("status").out
        == """\
          ready  cons  dead  retry  +/s
! q.work      0     0     1      0  0.0
    has no consumer; missing: work.a, work.b
    1 dead letter: attune-mq dlq show q.work
  q.note      0     0     -      -  0.0
problems in 1 of 2 queues
queues that belong to a connection are not looked at: mine
over AMQP alone consumers are counted and not named, and rates are changes of depth; queues of \
instances of worker are not seen
"""
    )


LONG = QueueStatus(
    ObservedQueue(
        "attune.a.queue.with.a.very.long.name.indeed.that.no.terminal.shows",
        messages=123_456_789,
        consumers=3,
        unacknowledged=10,
        consumer_tags=("executor.enforcement@a-host-with-a-long-name.example.com", "b"),
        published_per_s=1234.5,
        delivered_per_s=1234.5,
        depth_change_per_s=-0.04,
    ),
    dead_letters=12,
    waiting=1,
    problems=("12 dead letters: attune-mq dlq show attune.a.queue.with.a.very.long.name",),
)
WIDE = QueueReport(
    (LONG, QueueStatus(ObservedQueue("q"))), "management", ("what is not seen " * 9,)
)


@pytest.mark.parametrize("columns", [200, 80, 60, 40, 20, 10, 3, 1])
@pytest.mark.parametrize("is_coloured", [True, False])
def test_no_line_is_longer_than_the_terminal_is_wide(columns: int, is_coloured: bool) -> None:
    lines = table(WIDE, columns, is_coloured=is_coloured)

    assert max(len(row) for line in lines for row in rows_of(line)) <= columns


def test_on_40_columns_name_depth_consumers_and_dead_letters_are_left() -> None:
    head, row, *rest = table(WIDE, 40)

    assert head.split() == ["ready", "cons"]
    assert row.startswith("! …")
    assert "123456789" in row
    assert " ".join(rest).split()[:3] == ["12", "dead", "letters:"]


def test_without_a_bound_everything_is_there() -> None:
    head, row, *_ = table(WIDE, None)

    assert head.split() == ["ready", "unacked", "cons", "dead", "retry", "in/s", "out/s", "+/s"]
    assert row.split()[1:] == [
        LONG.queue.name,
        "123456789",
        "10",
        "3",
        "12",
        "1",
        "1234.5",
        "1234.5",
        "0.0",
    ]


def test_a_name_cannot_move_the_cursor() -> None:
    [_, row, *_] = table(QueueReport((QueueStatus(ObservedQueue("q\x1b[2J", 0, 0)),), "amqp"), None)
    assert "\x1b" not in row


def test_a_report_that_is_too_high_says_how_much_is_missing() -> None:
    assert clipped([*"abcd"], 4) == [*"abcd"]
    assert clipped([*"abcde"], 4) == ["a", "b", "c", "… 2 more lines"]
    assert clipped([*"abcde"], 0) == []


# Watching.


def test_watching_draws_in_place_and_gives_the_terminal_back_at_ctrl_c(
    file: str, bench: Bench
) -> None:
    arguments = ("--topology", file, "--url", bench.url, "--interval", "0.1")

    with Terminal("status", "--watch", *arguments, columns=40, rows=12) as terminal:
        terminal.wait_for("q.note      0")
        bench.put("q.note", b"{}")
        terminal.wait_for("q.note      1")
        terminal.interrupt()
        assert terminal.end() == 130

    assert terminal.drawn.startswith("\033[?1049h")
    own_screen, back, after = terminal.drawn.partition("\033[?7h\033[?25h\033[?1049l")
    assert back
    assert "Traceback" not in after
    assert "q.note      1" in after
    for drawn in own_screen.split("\033[H")[1:]:
        assert len(drawn.splitlines()) <= 12
    assert max(map(len, rows_of(terminal.drawn))) <= 40


def test_watching_into_a_pipe_prints_one_json_document_a_line(file: str, bench: Bench) -> None:
    arguments = ("--topology", file, "--url", bench.url, "--interval", "0.1", "--format", "json")

    with Terminal("status", "--watch", *arguments) as terminal:
        terminal.wait_for("\n{")
        terminal.terminate()
        assert terminal.end() == 130

    first, *_ = rows_of(terminal.drawn)
    assert [queue["queue"] for queue in json.loads(first)["queues"]] == ["q.work", "q.note"]
    assert "\033" not in terminal.drawn


def test_watching_waits_for_a_broker_that_goes_away(file: str, bench: Bench) -> None:
    proxy = Proxy(bench.url)
    arguments = ("--topology", file, "--url", proxy.url, "--interval", "0.1", "--format", "json")

    with Terminal("status", "--watch", *arguments) as terminal:
        terminal.wait_for('"queues"')
        proxy.close()
        terminal.wait_for("trying again")
        terminal.interrupt()
        assert terminal.end() == 130

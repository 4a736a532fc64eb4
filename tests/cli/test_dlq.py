"""``attune-mq dlq``: its JSON, its exit codes, what people read, and how it is interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pika
import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.cli.dlq import all_of
from attune_mq.dead_letters.dead_letter import DeadLetter
from attune_mq.errors import InvalidInput
from attune_mq.topology.families import instantiate
from attune_mq.topology_file import load_topology
from tests.cli.running import Run, runner
from tests.cli.terminal import Terminal, rows_of
from tests.messaging.bench import Bench
from tests.waiting import wait_until

SHIPPED = str(Path(__file__).parents[2] / "topology.yaml")
QUEUE, DEAD = "attune.executions.queue", "attune.executions.queue.dlq"
DIED_AT = "2026-11-24T03:01:52.123+00:00"


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    setup_infrastructure(SHIPPED, broker_url)
    bench = Bench(broker_url)
    yield bench
    bench.close()


@pytest.fixture
def run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys, "--topology", SHIPPED, "--url", bench.url)


def put(bench: Bench, message_id: str, queue: str = DEAD, **headers: Any) -> None:
    """As this library's consumer leaves it."""
    body = {"message_type": "PackTestRequested", "message_id": message_id,
            "payload": {"pack_ref": "core", "candidate_access_token": "s3cret"}}  # fmt: skip
    written: dict[str, Any] = {
        "x-attune-reason": "attempts exhausted",
        "x-attune-attempt": 3,
        "x-attune-error-type": "app.Timeout",
        "x-attune-error-message": "no answer",
        "x-attune-queue": QUEUE,
        "x-attune-exchange": "attune.executions",
        "x-attune-routing-key": "execution",
        "x-attune-died-at": DIED_AT,
    }
    properties = pika.BasicProperties(headers=written | headers)
    bench.put(queue, json.dumps(body).encode(), properties)


OLD_ADDRESS = {"x-attune-exchange": "attune.old", "x-attune-routing-key": "k"}


# What scripts rely on.


def test_list_has_every_queue_with_its_dead_letters(run: Run, bench: Bench) -> None:
    put(bench, "a")

    ran = run("dlq", "list", "--format", "json")

    assert ran.code == 0
    assert ran.json == {
        "queues": [
            {"queue": queue, "dead_letter_queue": f"{queue}.dlq", "messages": messages}
            for queue, messages in (
                ("attune.events.queue", 0),
                (QUEUE, 1),
                ("attune.notifications.queue", 0),
            )
        ]
    }
    assert "worker" in ran.err, "it does not say what it cannot see"


def test_list_has_those_of_instances_over_the_http_api(
    run: Run, bench: Bench, broker: EmbeddedBroker
) -> None:
    for worker_id in (7, 8):
        worker = instantiate(load_topology(SHIPPED), "worker", worker_id=worker_id)
        setup_infrastructure(worker, bench.url)
        put(bench, "a", f"worker.{worker_id}.cancel.dlq")

    ran = run("dlq", "list", "--format", "json", "--management-url", broker.management_url or "")

    assert ran.err == ""
    assert ran.json["queues"][3:] == [
        {
            "queue": f"worker.{worker_id}.cancel",
            "dead_letter_queue": f"worker.{worker_id}.cancel.dlq",
            "messages": 1,
        }
        for worker_id in (7, 8)
    ]


def test_show_has_what_is_needed_to_understand_why_and_no_secret(run: Run, bench: Bench) -> None:
    put(bench, "m-1")

    ran = run("dlq", "show", "executions", "--format", "json")

    assert ran.code == 0
    assert ran.json == {
        "messages": [
            {
                "message_id": "m-1",
                "message_type": "PackTestRequested",
                "reason": "attempts exhausted",
                "error": "app.Timeout: no answer",
                "attempts": 3,
                "died_at": DIED_AT.replace(".123", ".123000"),
                "exchange": "attune.executions",
                "routing_key": "execution",
                "body": {
                    "message_type": "PackTestRequested",
                    "message_id": "m-1",
                    "payload": {"pack_ref": "core", "candidate_access_token": "**********"},
                },
            }
        ]
    }
    assert bench.depth(DEAD) == 1


def test_show_of_what_says_nothing_has_null_everywhere(run: Run, bench: Bench) -> None:
    bench.put(DEAD, b"\xff\x1b[2J")

    [message] = run("dlq", "show", DEAD, "--format", "json").json["messages"]

    assert message.pop("body") == "\\xff\x1b[2J"
    assert set(message.values()) == {None}


def test_replay_counts_what_was_sent_what_is_left_and_what_no_queue_takes(
    run: Run, bench: Bench
) -> None:
    put(bench, "a")
    put(bench, "b", **OLD_ADDRESS)
    put(bench, "c")

    dry = run("dlq", "replay", "executions", "--dry-run", "--format", "json")
    first = run("dlq", "replay", "executions", "--limit", "1", "--format", "json")
    rest = run("dlq", "replay", "executions", "--format", "json")

    assert (dry.code, dry.json) == (1, {"replayed": 2, "left": 1, "unroutable": 1})
    assert (first.code, first.json) == (0, {"replayed": 1, "left": 2, "unroutable": 0})
    assert (rest.code, rest.json) == (1, {"replayed": 1, "left": 1, "unroutable": 1})
    assert "attune.old" in dry.err
    sent = [json.loads(message.body)["message_id"] for message in bench.take_all(QUEUE)]
    assert sent == ["a", "c"]
    assert bench.depth(DEAD) == 1


def test_a_replay_of_nothing_is_well(run: Run) -> None:
    ran = run("dlq", "replay", "executions", "--format", "json")
    assert (ran.code, ran.json) == (0, {"replayed": 0, "left": 0, "unroutable": 0})


def test_purge_deletes_nothing_without_yes(run: Run, bench: Bench) -> None:
    put(bench, "a")

    without = run("dlq", "purge", "executions")
    left = bench.depth(DEAD)
    with_it = run("dlq", "purge", "executions", "--yes", "--format", "json")

    assert (without.code, without.out, left) == (2, "", 1)
    assert "--yes" in without.err
    assert (with_it.code, with_it.json) == (0, {"dead_letter_queue": DEAD, "purged": 1})
    assert bench.depth(DEAD) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "exections"), "did you mean 'executions'"),
        (("show", "worker.7.executions"), "has no dead letter queue"),
        (("show", "worker.8.cancel"), "no queue 'worker.8.cancel.dlq' on the broker"),
        (("replay", "executions", "--filter", "kind=x"), "expected one of type=…"),
        (("replay", "executions", "--filter", "older=2"), "expected a duration"),
        (("purge", "amq.gen-1", "--yes"), "expected the key or the name"),
    ],
)
def test_wrong_arguments_are_told_and_end_with_2(
    arguments: tuple[str, ...], said: str, run: Run
) -> None:
    ran = run("dlq", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


@pytest.mark.parametrize("arguments", [(), ("shew",), ("show",), ("show", "q", "--limit", "-1")])
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], run: Run) -> None:
    with pytest.raises(SystemExit) as ended:
        run("dlq", *arguments)
    assert ended.value.code == 2


def test_a_broker_that_is_away_has_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    run = runner(capsys, "--topology", SHIPPED, "--url", "amqp://localhost:1")
    for arguments in (("list",), ("show", "events"), ("replay", "events")):
        ran = run("dlq", *arguments)
        assert (ran.code, ran.out) == (3, "")


# What people read.


def test_people_read_what_died_why_and_from_where(run: Run, bench: Bench) -> None:
    put(bench, "m-1")
    bench.put(DEAD, b"\x1b[2J")

    assert (
        run("dlq", "show", "executions").out
        == f"""\
PackTestRequested  m-1
  died    attempts exhausted after 3 attempts in {QUEUE} at 2026-11-24 03:01:52 UTC
  error   app.Timeout: no answer
  from    exchange 'attune.executions' with routing key 'execution'
  payload {{"pack_ref": "core", "candidate_access_token": "**********"}}

no type  no id
  died    for an unknown reason
  body    \\x1b[2J

2 dead letters shown
"""
    )


def test_people_read_where_messages_go_and_why_others_stay(run: Run, bench: Bench) -> None:
    put(bench, "a")
    put(bench, "b", **OLD_ADDRESS)

    ran = run("dlq", "replay", "executions")

    assert (
        ran.out
        == f"""\
sent 1 to exchange 'attune.executions' with routing key 'execution'
sent 1, left 1 in {DEAD}, 1 of them unroutable
"""
    )
    assert ran.err.count("1 cannot be sent: exchange 'attune.old' with routing key 'k'") == 1


def test_people_read_how_many_there_are(run: Run, bench: Bench) -> None:
    put(bench, "a")
    bench.channel.queue_delete("attune.notifications.queue.dlq")

    assert (
        run("dlq", "list").out
        == """\
0  attune.events.queue         in attune.events.queue.dlq
1  attune.executions.queue     in attune.executions.queue.dlq
-  attune.notifications.queue  in attune.notifications.queue.dlq (does not exist)
"""
    )


# Filters.

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def letter(**said: Any) -> DeadLetter:
    unsaid = dict.fromkeys(DeadLetter.__dataclass_fields__)
    return DeadLetter(**{**unsaid, "body": b"", **said})


@pytest.mark.parametrize(
    ("text", "taken", "passed_over"),
    [
        ("type=EventCreated", {"message_type": "EventCreated"}, {"message_type": "Event"}),
        ("reason=attempts exhausted", {"reason": "attempts exhausted"}, {"reason": "rejected"}),
        ("id=m-1", {"message_id": "m-1"}, {"message_id": "m-10"}),
        ("queue=q", {"queue": "q"}, {"queue": "q.dlq"}),
        ("error=no answer", {"error": "app.Timeout: No Answer in 3 s"}, {"error": "app.Timeout"}),
        ("older=2h", {"died_at": NOW - timedelta(hours=3)}, {"died_at": NOW - timedelta(hours=1)}),
        ("younger=2h", {"died_at": NOW - timedelta(hours=1)}, {"died_at": NOW - timedelta(days=1)}),
    ],
)
def test_a_filter_takes_what_it_says(
    text: str, taken: dict[str, Any], passed_over: dict[str, Any]
) -> None:
    takes = all_of([text], now=NOW)

    assert takes(letter(**taken))
    assert not takes(letter(**passed_over))
    assert not takes(letter())


def test_of_several_filters_all_have_to_fit() -> None:
    takes = all_of(["type=A", "error=x"])

    assert takes(letter(message_type="A", error="x"))
    assert not takes(letter(message_type="A", error="y"))
    assert not takes(letter(message_type="B", error="x"))
    assert all_of([])(letter())


@pytest.mark.parametrize("text", ["", "type", "=x", "older=", "older=soon", "younger=1w"])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--filter: expected"):
        all_of([text])


def test_replay_passes_over_what_the_filters_do_not_take(run: Run, bench: Bench) -> None:
    now = datetime.now(UTC)
    long_ago = {"x-attune-died-at": (now - timedelta(hours=2)).isoformat()}
    put(bench, "a", **long_ago)
    put(bench, "b", **long_ago, **{"x-attune-error-message": "refused"})
    put(bench, "c", **{"x-attune-died-at": now.isoformat()})
    filters = ("--filter", "error=no answer", "--filter", "older=1h")

    ran = run("dlq", "replay", "executions", *filters, "--format", "json")

    assert (ran.code, ran.json) == (0, {"replayed": 1, "left": 2, "unroutable": 0})
    assert [json.loads(message.body)["message_id"] for message in bench.take_all(DEAD)] == [
        "b",
        "c",
    ]


# A terminal, and Ctrl-C.


def many(bench: Bench, count: int) -> None:
    channel = bench.connection.channel()
    headers = {"x-attune-exchange": "attune.executions", "x-attune-routing-key": "execution"}
    for number in range(count):
        properties = pika.BasicProperties(message_id=str(number), headers=headers)
        channel.basic_publish("", DEAD, b"{}", properties)
    channel.close()
    bench.wait_for_depth(DEAD, count)


def test_a_bar_is_drawn_on_a_terminal_and_standard_output_stays_json(bench: Bench) -> None:
    many(bench, 30)
    arguments = ("--topology", SHIPPED, "--url", bench.url, "--format", "json")

    with Terminal("dlq", "replay", "executions", *arguments, columns=40, piped=True) as terminal:
        assert terminal.end() == 0

    assert json.loads(terminal.out) == {"replayed": 30, "left": 0, "unroutable": 0}
    assert "] 30/30" in terminal.drawn
    assert max(map(len, rows_of(terminal.drawn))) <= 40


def test_without_a_terminal_nothing_is_drawn(run: Run, bench: Bench) -> None:
    many(bench, 3)
    assert run("dlq", "replay", "executions", "--format", "json").err == ""


def test_ctrl_c_ends_a_replay_after_the_message_in_flight(bench: Bench) -> None:
    many(bench, 2000)
    arguments = ("--topology", SHIPPED, "--url", bench.url, "--format", "json")

    with Terminal("dlq", "replay", "executions", *arguments, piped=True) as terminal:
        terminal.wait_for("replaying")
        terminal.interrupt()
        assert terminal.end() == 130

    counted = json.loads(terminal.out)
    sent, left = counted["replayed"], counted["left"]
    assert 0 < sent < 2000
    assert sent + left == 2000
    wait_until(lambda: bench.depth(DEAD) == left, "all is given back")
    assert bench.depth(QUEUE) == sent

"""``attune-mq route``: its forms, its JSON, its exit codes, and what people read."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from attune_mq.cli.main import main

TOPOLOGY = """
version: 1
dead_letter: {exchange: dlx, ttl: 24h}
exchanges:
  events: {name: x.events, type: topic, alternate_exchange: rest}
  files:  {name: x.files,  type: headers}
  hashed: {name: x.hashed, type: x-consistent-hash}
  rest:   {name: x.rest,   type: direct}
  dlx:    {name: x.dlx,    type: fanout}
queues:
  orders: {name: q.orders}
  audit:  {name: q.audit}
  pdf:    {name: q.pdf, dead_letter: false}
  retry:  {name: q.retry, ttl: 30s, dead_letter: {to: "", routing_key: q.work}}
  work:   {name: q.work, dead_letter: {to: "", routing_key: q.retry}}
bindings:
  - {source: events, destination: orders, routing_key: order.*}
  - {source: events, destination: audit,  routing_key: "#.paid"}
  - {source: files,  destination: pdf,    arguments: {format: pdf, pages: 2}}
families:
  worker:
    parameters: [id]
    queues:
      jobs: {name: "worker.{id}.jobs", ttl: 5m, dead_letter: {to: events, routing_key: order.late}}
    bindings: [{source: rest, destination: jobs, routing_key: "job.{id}"}]
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    def __init__(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = file
        self._capsys = capsys

    def route(self, *arguments: str) -> Ran:
        code = main(["--topology", str(self.file), "route", *arguments])
        return Ran(code, *self._capsys.readouterr())

    def json(self, *arguments: str) -> Ran:
        return self.route("--format", "json", *arguments)

    def batch(self, questions: list[Any] | bytes, *arguments: str) -> Ran:
        file = self.file.with_name("questions.jsonl")
        lines = questions if isinstance(questions, bytes) else _lines(questions)
        file.write_bytes(lines)
        return self.route("--batch", str(file), *arguments)


def _lines(questions: list[Any]) -> bytes:
    return b"".join(json.dumps(question).encode() + b"\n" for question in questions)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY, encoding="utf-8")
    return Cli(file, capsys)


# publishing


def test_a_message_goes_to_the_queues_in_alphabetical_order(cli: Cli) -> None:
    ran = cli.json("x.events", "order.paid")

    assert ran.code == 0
    assert ran.json["queues"] == ["q.audit", "q.orders"]
    assert ran.json["unroutable"] is False


def test_a_path_names_the_objects_that_a_message_passes(cli: Cli) -> None:
    assert cli.json("x.events", "order.made").json["paths"] == [
        [
            {"kind": "exchange", "name": "x.events"},
            {"kind": "binding", "name": "x.events -> q.orders [order.*]"},
            {"kind": "queue", "name": "q.orders"},
        ]
    ]


def test_a_message_that_no_queue_gets_is_something_found(cli: Cli) -> None:
    ran = cli.json("x.events", "nothing")

    assert (ran.code, ran.json) == (1, {"queues": [], "unroutable": True, "paths": []})


def test_the_empty_exchange_is_the_default_one(cli: Cli) -> None:
    assert cli.json("", "q.pdf").json["queues"] == ["q.pdf"]
    assert cli.json("").code == 1


def test_headers_are_numbers_where_they_look_like_numbers(cli: Cli) -> None:
    assert cli.json("x.files", "--header", "format=pdf", "--header", "pages=2").code == 0
    assert cli.json("x.files", "--header", "format=pdf", "--header", 'pages="2"').code == 1
    assert cli.json("x.files", "--header", "format=pdf").code == 1


def test_cc_and_bcc_take_a_key_each_time(cli: Cli) -> None:
    ran = cli.json("", "q.pdf", "--header", "CC=q.audit", "--header", "CC=q.orders",
                   "--header", "BCC=q.work")  # fmt: skip

    assert ran.json["queues"] == ["q.audit", "q.orders", "q.pdf", "q.work"]


def test_an_exchange_that_the_broker_alone_publishes_to_is_refused(cli: Cli) -> None:
    ran = cli.json("x.dlx.direct", "k")

    assert ran.code == 1
    assert ran.json["refused"].startswith("403 ACCESS_REFUSED")
    assert "403 ACCESS_REFUSED" in cli.route("x.dlx.direct", "k").out


def test_what_a_plugin_does_is_not_claimed_to_be_known(cli: Cli) -> None:
    ran = cli.json("x.hashed", "k")

    assert ran.code == 1
    assert ran.json["unroutable"] is False
    assert ran.json["unsimulated"] == ["x.hashed"]
    assert "x-consistent-hash" in cli.route("x.hashed", "k").out


# dying


def test_a_dead_letter_lands_in_the_queue_of_its_own(cli: Cli) -> None:
    ran = cli.json("--dead", "q.orders", "--key", "order.made")

    assert ran.code == 0
    assert ran.json["queues"] == ["q.orders.dlq"]
    assert ran.json["dropped"] is None
    assert ran.json["paths"][0][:2] == [
        {"kind": "queue", "name": "q.orders"},
        {"kind": "exchange", "name": "x.dlx"},
    ]


def test_a_dead_letter_is_followed_through_queues_in_which_it_expires(cli: Cli) -> None:
    assert cli.json("--dead", "q.work").json["queues"] == ["q.retry"]
    assert cli.json("--dead", "q.work", "--follow").json["queues"] == ["q.work"]


@pytest.mark.parametrize(
    ("arguments", "dropped"),
    [
        (["q.pdf"], "no dead letter exchange"),
        (["q.orders.dlq", "--reason", "expired"], "no dead letter exchange"),
        (["q.work", "--reason", "delivery_limit", "--follow"], "cycle"),
        (["q.work", "--reason", "maxlen", "--follow"], "cycle"),
    ],
)
def test_a_dead_letter_that_is_lost_says_why(cli: Cli, arguments: list[str], dropped: str) -> None:
    ran = cli.json("--dead", *arguments)

    assert ran.code == 1
    assert (ran.json["queues"], ran.json["dropped"]) == ([], dropped)
    assert ran.json["unroutable"] is True


def test_a_queue_of_a_family_is_asked_about_by_the_name_of_an_instance(cli: Cli) -> None:
    ran = cli.json("--dead", "worker.7.jobs", "--reason", "expired")

    assert ran.json["queues"] == ["q.orders"]
    assert ran.err == "with an instance of the family worker (id=7)\n"


# many at once


def test_a_batch_is_answered_in_order_a_line_each(cli: Cli) -> None:
    ran = cli.batch([
        {"exchange": "x.events", "routing_key": "order.made"},
        {"exchange": ""},
        {"exchange": "x.files", "headers": {"format": "pdf", "pages": 2}},
        {"dead": "q.orders", "routing_key": "order.made"},
        {"dead": "q.work", "reason": "expired", "follow": True},
        {"dead": "worker.7.jobs", "reason": "expired"},
    ])  # fmt: skip

    assert [answer["queues"] for answer in ran.lines] == [
        ["q.orders"], [], ["q.pdf"], ["q.orders.dlq"], [], ["q.orders"],
    ]  # fmt: skip
    assert [answer.get("dropped") for answer in ran.lines][3:] == [None, "cycle", None]
    assert ran.code == 1


def test_a_batch_in_which_all_arrives_is_nothing_found(cli: Cli) -> None:
    assert cli.batch([{"exchange": "", "routing_key": "q.pdf"}]).code == 0
    assert cli.batch([]).code == 0


def test_following_goes_for_the_whole_of_a_batch(cli: Cli) -> None:
    ran = cli.batch([{"dead": "q.work"}, {"dead": "q.work", "follow": False}], "--follow")

    assert [answer["queues"] for answer in ran.lines] == [["q.work"], ["q.retry"]]


def test_a_batch_is_read_from_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = io.BytesIO(_lines([{"exchange": "", "routing_key": "q.pdf"}]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(questions))

    assert cli.route("--batch", "-").lines[0]["queues"] == ["q.pdf"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "expected a JSON object, got an error in it"),
        (b"\xff\xfe{", "expected a JSON object, got an error in it"),
        (b"[" * 100_000, "expected a JSON object, got an error in it"),
        (b"7", "expected a JSON object, got another value"),
        (b"{}", "expected the key 'exchange' or 'dead'"),
        (b'{"exchange": 7}', "exchange: expected a text, got 7"),
        (b'{"exchange": "", "headers": ["a"]}', 'headers: expected an object, got ["a"]'),
        (b'{"exchange": "", "routingkey": "k"}', "one of the keys exchange, routing_key, headers"),
        (b'{"dead": "q.orders", "reason": "bored"}', "reason: expected one of rejected, expired"),
        (b'{"dead": "q.oders"}', "did you mean 'q.orders'?"),
        (b'{"dead": "q.orders", "headers": {"CC": "a"}}', "CC must be a list"),
    ],
)
def test_a_line_that_is_no_question_says_so_in_its_place(
    cli: Cli, line: bytes, problem: str
) -> None:
    good = b'{"exchange": "", "routing_key": "q.pdf"}\n'

    ran = cli.batch(good + b"\n" + line + b"\n" + good)

    assert ran.code == 2
    assert [next(iter(answer)) for answer in ran.lines] == ["queues", "error", "queues"]
    assert problem in ran.lines[1]["error"]
    assert f"questions.jsonl:3: {ran.lines[1]['error']}" in ran.err


def test_an_exchange_that_is_not_there_is_refused_in_a_batch(cli: Cli) -> None:
    ran = cli.batch([{"exchange": "x.evnts", "routing_key": "order.made"}])

    assert (ran.code, ran.lines[0]["refused"]) == (1, "404 NOT_FOUND - no exchange 'x.evnts'")


# wrong arguments


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "expected one of EXCHANGE, --dead and --batch, got none"),
        (["x.events", "k", "--dead", "q.pdf"], "got EXCHANGE and --dead"),
        (["--dead", "q.pdf", "--batch", "f"], "got --dead and --batch"),
        (["x.events", "--key", "k"], "--key does not go with EXCHANGE"),
        (["x.events", "--follow"], "--follow does not go with EXCHANGE"),
        (["x.events", "--reason", "maxlen"], "--reason does not go with EXCHANGE"),
        (["--batch", "f", "--header", "a=b"], "--header does not go with --batch"),
        (["--batch", "no-such-file"], "--batch no-such-file: cannot be read: No such file"),
        (["x.events", "--header", "format"], "--header: expected K=V"),
        (["events"], "did you mean 'x.events'?"),
        (["x.evnts"], "did you mean 'x.events'?"),
        (["--dead", "q.oders"], "did you mean 'q.orders'?"),
    ],
)
def test_wrong_arguments_say_what_was_expected(
    cli: Cli, arguments: list[str], problem: str
) -> None:
    ran = cli.route(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert problem in ran.err


# for people


def test_people_see_the_queues_and_the_way_to_each(cli: Cli) -> None:
    assert cli.route("x.events", "order.paid").out == (
        "q.audit\n"
        "    x.events --[#.paid]--> q.audit\n"
        "q.orders\n"
        "    x.events --[order.*]--> q.orders\n"
    )


def test_people_see_where_a_dead_letter_rests_and_for_how_long(cli: Cli) -> None:
    assert cli.route("--dead", "q.orders", "--reason", "maxlen").out == (
        "q.orders.dlq (for at most 24h)\n"
        "    q.orders --(maxlen)--> x.dlx --> x.dlx.direct --[q.orders]--> q.orders.dlq\n"
    )


def test_people_see_each_death_on_the_way(cli: Cli) -> None:
    assert cli.route("--dead", "q.work", "--follow").out == (
        "q.work\n"
        "    q.work --(rejected)--> (default exchange) --> q.retry"
        " --(expired)--> (default exchange) --> q.work\n"
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["x.rest", "k"], "The direct exchange 'x.rest' has no bindings."),
        (["x.events", "k"], "The direct exchange 'x.rest' has no bindings."),
        (["x.files", "k"], "'x.files' has no binding that matches these headers."),
        (["", "q.oders"], "No queue has the name 'q.oders'; did you mean 'q.orders'?"),
        (["x.rest", "job.7"], "With an instance of the family worker (id=7), "
                              "it is routed to 'worker.7.jobs'."),
        (["--dead", "q.pdf"], "The message is lost: 'q.pdf' has no dead letter exchange."),
        (["--dead", "q.work", "--reason", "expired", "--follow"],
         "The message is lost: dead-letter cycle: from 'q.retry' it would return to a queue"),
    ],
)  # fmt: skip
def test_people_see_why_nothing_arrives(cli: Cli, arguments: list[str], why: str) -> None:
    ran = cli.route(*arguments)

    assert ran.code == 1
    assert why in ran.out


def test_people_see_the_key_that_they_may_have_meant(cli: Cli) -> None:
    cli.file.write_text(TOPOLOGY.replace("alternate_exchange: rest", ""), encoding="utf-8")

    out = cli.route("x.events", "odrer.a").out

    assert "has no binding that matches the key 'odrer.a', only 'order.*', '#.paid'" in out
    assert "did you mean 'order.*'?" in out

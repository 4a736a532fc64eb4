"""Where findings point, what they say beyond their rule, and what depends on the version."""

from __future__ import annotations

import sys
from collections.abc import Callable
from textwrap import dedent
from types import FrameType

import pytest

from attune_mq.lint import Finding, lint
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology
from attune_mq.topology.objects import DeadLetterQueue, Exchange, Queue


def found(text: str) -> tuple[Finding, ...]:
    return lint(parse_topology(dedent(text), file="t.yaml"))


def said_of(rule_id: str, text: str) -> list[str]:
    return [each.message for each in found(text) if each.rule == rule_id]


def test_what_the_library_added_is_found_at_the_line_that_led_to_it() -> None:
    [finding] = found(
        """\
        version: 1
        dead_letter:
          exchange: amq.fanout
        queues:
          work: {name: work}
        consumers:
          worker: {service: worker, queue: work}
        """
    )
    assert (finding.rule, finding.where.line) == ("name-reserved", 2)
    assert "exchange amq.fanout.direct" in finding.message


def test_a_fault_of_a_family_is_found_in_the_family() -> None:
    findings = found(
        """\
        version: 1
        exchanges:
          jobs: {name: jobs, type: direct}
        families:
          worker:
            parameters: [id]
            queues:
              jobs: {name: "worker.{id}.jobs", expires: 1h}
            bindings:
              - {source: jobs, destination: jobs, routing_key: "job.{id}"}
            messages:
              JobCreated: {exchange: jobs, routing_key: "jobs.{id}", publishers: [api]}
            consumers:
              worker-{id}: {service: worker, queue: jobs, handles: [JobCreated]}
        """
    )
    assert [(each.rule, each.where.path) for each in findings] == [
        ("dead-binding", "families.worker.bindings[0]"),
        ("message-unroutable", "families.worker.messages.JobCreated"),
    ]


def test_a_topology_made_in_code_is_linted_too() -> None:
    queue = Queue(name="work", arguments={"x-mesage-ttl": 5000}, max_length=10)
    [finding] = lint(Topology(version=1, queues={"work": queue}))
    assert finding.rule == "unknown-argument"
    assert finding.where.line == 0


def test_an_unknown_argument_is_told_with_the_likely_one() -> None:
    [message] = said_of(
        "unknown-argument",
        """
        version: 1
        queues:
          work: {name: work, max_length: 5, arguments: {x-mesage-ttl: 5000}}
        """,
    )
    assert message.endswith("did you mean 'x-message-ttl'?")


def test_a_name_that_leaves_no_room_is_the_only_thing_said() -> None:
    queues = {"work": Queue(name="w" * 254)}
    dlx = {"dlx": Exchange(name="dlx", type="fanout")}
    general = DeadLetterQueue(exchange="dlx")
    findings = lint(Topology(version=1, queues=queues, exchanges=dlx, dead_letter=general))
    assert [each.rule for each in findings] == ["name-too-long"]


QUORUM = """
    version: 1
    {broker}
    queues:
      work: {{name: work, type: quorum{more}}}
    consumers:
      worker: {{service: worker, queue: work}}
"""


def quorum(*, version: str | None = None, more: str = "") -> list[str]:
    broker = f'broker: {{version: "{version}"}}' if version else ""
    return [each.rule for each in found(QUORUM.format(broker=broker, more=more))]


def test_no_delivery_limit_is_a_fault_only_while_the_version_is_open() -> None:
    assert quorum() == ["delivery-limit-differs"]
    assert quorum(version="3.13") == []
    assert quorum(version="4.0") == []


def test_a_delivery_limit_of_minus_one_loses_messages_before_4_0_and_limits_nothing_after() -> None:
    assert quorum(version="3.10", more=", delivery_limit: -1") == ["delivery-limit-differs"]
    assert quorum(version="4.3", more=", delivery_limit: -1") == ["retry-without-limit"]


def test_attempts_beyond_the_default_delivery_limit_are_cut_short_from_4_0_on() -> None:
    more = ", retry: {attempts: 30}"
    assert quorum(version="4.1", more=more) == ["attempts-cut-short"]
    assert quorum(version="3.13", more=more) == []


@pytest.mark.parametrize(
    ("version", "lost"), [("3.13", False), ("4.0", True), ("4.3.6", True), (None, False)]
)
def test_the_default_delivery_limit_loses_messages_in_a_retry_queue_from_4_0_on(
    version: str | None, lost: bool
) -> None:
    broker = f'broker: {{version: "{version}"}}' if version else ""
    rules = {
        each.rule
        for each in found(
            f"""
            version: 1
            {broker}
            queues:
              work: {{name: work, type: quorum, dead_letter: {{to: "", routing_key: retry}}}}
              retry: {{name: retry, ttl: 30s, dead_letter: {{to: "", routing_key: work}}}}
            consumers:
              worker: {{service: worker, queue: work}}
            """
        )
    }
    assert ("delivery-limit-lost-in-retry" in rules) is lost


def deadline(*, version: str, queue_type: str, prefetch: int = 1) -> list[str]:
    return said_of(
        "deadline-beyond-consumer-timeout",
        f"""
        version: 1
        broker: {{version: "{version}"}}
        queues:
          work: {{name: work, type: {queue_type}}}
        consumers:
          worker: {{service: worker, queue: work, deadline: 20m, prefetch: {prefetch}}}
        """,
    )


def test_the_last_of_many_prefetched_messages_has_the_least_time() -> None:
    assert deadline(version="4.0", queue_type="classic") == []
    [message] = deadline(version="4.0", queue_type="classic", prefetch=10)
    assert "prefetched messages waits up to 200m; RabbitMQ waits 30m" in message


def test_classic_queues_have_no_consumer_timeout_from_4_3_on() -> None:
    assert deadline(version="4.3", queue_type="classic", prefetch=10) == []
    assert len(deadline(version="4.3", queue_type="quorum", prefetch=10)) == 1


def test_a_dead_letter_queue_is_held_against_the_file_though_no_key_is_known() -> None:
    [finding] = found(
        """
        version: 1
        exchanges:
          events: {name: events, type: topic}
          dlx: {name: dlx, type: fanout}
        queues:
          events: {name: events, dead_letter: {to: dlx}}
          one: {name: one, ttl: 1h, purpose: dead_letter}
          two: {name: two, ttl: 1h, purpose: dead_letter}
        bindings:
          - {source: events, destination: events, routing_key: "#"}
          - {source: dlx, destination: one}
          - {source: dlx, destination: two}
        consumers:
          reader: {service: reader, queue: events}
        """
    )
    assert finding.rule == "dead-letter-copied"
    assert finding.message == "a dead letter of queue events is copied to 2: one, two"


def test_a_file_without_messages_or_consumers_has_one_finding_on_its_consumers() -> None:
    [finding] = found(
        """
        version: 1
        queues:
          one: {name: one}
          two: {name: two}
          limited: {name: limited, max_length: 10}
        """
    )
    assert finding.rule == "queue-without-consumer"
    assert "names no consumers for 2 queues (one, two)" in finding.message


def test_an_at_least_once_queue_with_nowhere_to_go_is_said_to_fill_up() -> None:
    [message] = said_of(
        "dead-letter-unroutable",
        """
        version: 1
        exchanges:
          dlx: {name: dlx, type: direct}
        queues:
          work:
            name: work
            type: quorum
            overflow: reject-publish
            dead_letter: {to: dlx, routing_key: nowhere, strategy: at-least-once}
        """,
    )
    assert "stay in it, unseen, and fill it" in message


@pytest.mark.parametrize(
    "line",
    [
        "# amqps://admin:hunter2@rabbit.example.org:5671/prod",
        "# ${URL:-amqp://admin:hunter2@rabbit.example.org}",
        "# amqp://admin:${PASSWORD:-hunter2}@rabbit.example.org",
        "queues: {work: {name: work, max_length: 5, arguments: {x-password: hunter2}}}",
    ],
)
def test_a_password_is_found_wherever_it_stands_and_is_not_repeated(line: str) -> None:
    findings = [each for each in found(f"version: 1\n{line}\n") if each.rule == "password-in-file"]
    assert len(findings) == 1
    assert "hunter2" not in str(findings[0])


@pytest.mark.parametrize(
    "line",
    [
        "# amqp://guest:guest@localhost/",
        "# amqp://admin:${PASSWORD}@rabbit.example.org",
        "# the password: ask the operators",
        "queues: {work: {name: work, max_length: 5, arguments: {x-password: '${SECRET:-}'}}}",
    ],
)
def test_what_is_no_secret_is_no_password(line: str) -> None:
    assert not [e for e in found(f"version: 1\n{line}\n") if e.rule == "password-in-file"]


def calls_of(run: Callable[[], object]) -> int:
    """How many functions Python enters meanwhile: work done, whatever else the machine does."""
    count = 0

    def counting(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counting)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def large(queues: int) -> Topology:
    lines = ["version: 1", "dead_letter: {exchange: dlx, ttl: 24h}", "exchanges:"]
    lines += ["  events: {name: events, type: topic}", "  dlx: {name: dlx, type: fanout}"]
    for section, line in (
        ("queues:", "  q{0}: {{name: queue.{0}, retry: {{attempts: 5, backoff: [1s, 10s]}}}}"),
        ("bindings:", "  - {{source: events, destination: q{0}, routing_key: k.{0}}}"),
        ("messages:", "  T{0}: {{exchange: events, routing_key: k.{0}, publishers: [s]}}"),
        ("consumers:", "  c{0}: {{service: s, queue: q{0}, handles: [T{0}]}}"),
    ):
        lines += [section, *(line.format(number) for number in range(queues))]
    return parse_topology("\n".join(lines))


def test_a_file_twice_as_long_takes_twice_the_work() -> None:
    short, long = large(100), large(200)
    assert calls_of(lambda: lint(long)) < 2.2 * calls_of(lambda: lint(short))

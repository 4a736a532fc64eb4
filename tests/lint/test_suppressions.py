"""A line of the file can be excused, with a reason; an excuse is held to its word."""

from __future__ import annotations

from attune_mq.lint import lint
from attune_mq.topology.loading import parse_topology

FILE = """version: 1
exchanges:
  events: {{name: attune.events, type: topic}}
queues:
  rules: {{name: attune.rules.queue}}
{above}  events: {{name: attune.events.queue}}{beside}
bindings:
  - {{source: events, destination: rules, routing_key: rule.created}}
  - {{source: events, destination: events, routing_key: "#"}}
consumers:
  sensor-rule-lifecycle: {{service: sensor, queue: rules{consumer}}}
"""
QUEUE_LINE = 6


def found(*, above: str = "", beside: str = "", consumer: str = "") -> list[tuple[str, int]]:
    text = FILE.format(above=above, beside=beside, consumer=consumer)
    return [(each.rule, each.where.line) for each in lint(parse_topology(text))]


def test_without_an_excuse_the_fault_is_found() -> None:
    assert found() == [("queue-without-consumer", QUEUE_LINE)]


def test_a_comment_at_the_end_of_the_line_excuses_it() -> None:
    assert found(beside="  # lint: allow queue-without-consumer -- the audit team reads it") == []


def test_a_comment_in_the_line_above_excuses_it() -> None:
    assert found(above="  # lint: allow queue-without-consumer -- the audit team reads it\n") == []


def test_several_comments_above_speak_of_the_same_line() -> None:
    above = (
        "  # lint: allow queue-without-consumer -- the audit team reads it\n"
        "  # What it reads is kept elsewhere.\n"
    )
    assert found(above=above) == []


def test_one_excuse_can_name_several_rules() -> None:
    above = "  # lint: allow queue-without-consumer, ttl-without-dead-letter -- for the audit\n"
    assert found(above=above) == [("excuse-of-nothing", QUEUE_LINE)]


def test_an_excuse_of_one_line_leaves_the_next_alone() -> None:
    excuse = ", prefetch: 0}  # lint: allow queue-without-consumer -- by mistake here"
    assert found(consumer=excuse.removesuffix("}")) == [
        ("queue-without-consumer", QUEUE_LINE),
        ("prefetch-without-bound", 11),
        ("excuse-of-nothing", 11),
    ]


def test_an_excuse_without_a_reason_excuses_nothing_and_is_found() -> None:
    assert found(beside="  # lint: allow queue-without-consumer") == [
        ("queue-without-consumer", QUEUE_LINE),
        ("excuse-unreadable", QUEUE_LINE),
    ]
    assert found(beside="  # lint: allow queue-without-consumer -- ") == [
        ("queue-without-consumer", QUEUE_LINE),
        ("excuse-unreadable", QUEUE_LINE),
    ]


def test_an_excuse_for_an_unknown_rule_names_the_likely_one() -> None:
    topology = parse_topology(
        FILE.format(
            above="", consumer="", beside="  # lint: allow queue-without-consumers -- audit"
        )
    )
    unknown = [each for each in lint(topology) if each.rule == "excuse-of-unknown-rule"]
    assert [each.message for each in unknown] == [
        "there is no rule 'queue-without-consumers'; did you mean 'queue-without-consumer'?"
    ]


def test_a_hash_within_a_word_begins_no_excuse() -> None:
    text = 'version: 1\nqueues:\n  odd: {name: "a# lint: allow x", max_length: 1}\n'
    assert lint(parse_topology(text)) == ()


def test_what_is_wrong_with_an_excuse_is_found_at_its_comment() -> None:
    text = FILE.format(above="", consumer="", beside="  # lint: allow everything")
    unreadable = [e for e in lint(parse_topology(text)) if e.rule == "excuse-unreadable"]
    assert [each.where.column for each in unreadable] == [
        text.splitlines()[QUEUE_LINE - 1].index("# lint") + 1
    ]

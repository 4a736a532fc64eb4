"""A topology file is read strictly, and all that is wrong in it is said at once, by line."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime

import pytest

from attune_mq.topology.contracts import ConsumerSpec, stream_offset_argument
from attune_mq.topology.document import MAX_DEPTH
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology
from attune_mq.topology.source import InvalidTopology, Problem

EVENTS = """\
version: 1
exchanges:
  events: {name: attune.events, type: topic}
queues:
  events: {name: attune.events.queue}
"""


def problems_of(text: str, **environment: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidTopology) as caught:
        parse_topology(textwrap.dedent(text), file="t.yaml", environment=environment)
    return caught.value.problems


def only_problem(text: str, **environment: str) -> str:
    problems = problems_of(text, **environment)
    assert len(problems) == 1, problems
    return str(problems[0])


def test_a_file_becomes_frozen_values() -> None:
    topology = parse_topology(EVENTS)

    assert topology.exchanges["events"].name == "attune.events"
    assert topology.queues["events"].durable
    with pytest.raises(ValueError, match="frozen"):
        topology.version = 2  # type: ignore[assignment, misc]
    with pytest.raises(TypeError, match="cannot be changed"):
        topology.queues["more"] = topology.queues["events"]  # type: ignore[index]


def test_equal_topologies_are_equal_wherever_they_were_written() -> None:
    assert parse_topology(EVENTS, file="a") == parse_topology(f"# a comment\n{EVENTS}", file="b")


def test_every_problem_of_a_file_is_reported_at_once_and_by_line() -> None:
    problems = problems_of(
        """\
        version: 1
        exchanges:
          events: {name: attune.events, type: topci}
        queues:
          first: {nmae: attune.first}
          second: {name: attune.second, ttl: 24:00}
        bindings:
          - {source: evens, destination: first}
        bindngs: []
        """
    )

    assert [(problem.where.line, problem.where.path) for problem in problems] == [
        (3, "exchanges.events.type"),
        (5, "queues.first"),
        (5, "queues.first.nmae"),
        (6, "queues.second.ttl"),
        (8, "bindings[0].source"),
        (9, "bindngs"),
    ]


def test_a_problem_says_where_what_was_expected_and_what_was_found() -> None:
    said = only_problem(EVENTS.replace("queue}", "queue, ttl: 24:00}"))

    assert said.startswith(
        "t.yaml:5:39 queues.events.ttl: expected a duration such as 250ms, 30s, 5m, 24h or 7d, "
        'got "24:00"'
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("type: topci", "'topic'"),
        ("typ: topic", "'type'"),
    ],
)
def test_a_misspelt_word_comes_with_the_nearest_valid_one(written: str, meant: str) -> None:
    problems = problems_of(EVENTS.replace("type: topic", written))

    assert any(problem.hint == f"did you mean {meant}?" for problem in problems)


@pytest.mark.parametrize(
    ("line", "path", "nearest"),
    [
        ("bindings: [{source: event, destination: events}]", "bindings[0].source", "events"),
        ("bindings: [{source: events, destination: evens}]", "bindings[0].destination", "events"),
        ("dead_letter: {exchange: evnts}", "dead_letter.exchange", "events"),
        ("messages: {M: {exchange: evnts}}", "messages.M.exchange", "events"),
        ("consumers: {t: {service: s, queue: evnts}}", "consumers.t.queue", "events"),
    ],
)
def test_a_reference_to_nothing_names_the_nearest_key(line: str, path: str, nearest: str) -> None:
    problem = problems_of(f"{EVENTS}{line}\n")[0]

    assert problem.where.path == path
    assert problem.hint == f"did you mean {nearest!r}?"


def test_a_handled_type_must_be_a_message_of_the_file() -> None:
    said = only_problem(
        EVENTS
        + "messages: {EventCreated: {exchange: events}}\n"
        + "consumers: {t: {service: s, queue: events, handles: [EventCreate]}}\n"
    )

    assert "consumers.t.handles[0]" in said
    assert "did you mean 'EventCreated'?" in said


@pytest.mark.parametrize(
    ("scalar", "why"),
    [
        ("no", "boolean"),
        ("On", "boolean"),
        ("TRUE", "boolean"),
        ("24:00", "base 60"),
        ("010", "base 8"),
        ("0x1f", "number"),
        ("1_000", "number"),
        ("1.5", "number"),
        (".inf", "number"),
        ("2026-09-03", "date"),
        ("Null", "null"),
    ],
)
def test_what_readers_of_yaml_disagree_about_is_a_problem(scalar: str, why: str) -> None:
    text = EVENTS.replace("attune.events.queue", scalar)

    assert why in only_problem(text)
    quoted = parse_topology(text.replace(f"name: {scalar}", f'name: "{scalar}"'))
    assert quoted.queues["events"].name == scalar


def test_a_routing_key_that_became_a_comment_is_a_problem_with_the_cure() -> None:
    said = only_problem(
        EVENTS + "bindings:\n  - source: events\n    destination: events\n    routing_key: #\n"
    )

    assert "t.yaml:9:5 bindings[0].routing_key" in said
    assert 'an unquoted # begins a comment: write "#"' in said


def test_a_routing_key_that_looks_like_an_alias_is_a_problem_with_the_cure() -> None:
    said = only_problem(
        EVENTS + "bindings: [{source: events, destination: events, routing_key: *.created}]\n"
    )

    assert 'quote it, as in "*.created"' in said


def test_a_key_given_twice_is_a_problem_that_names_the_first() -> None:
    said = only_problem(EVENTS + "queues:\n  other: {name: other}\n")

    assert "expected each key once, got 'queues' again (first in line 4)" in said


def test_two_queues_cannot_have_one_name() -> None:
    said = only_problem(EVENTS + "  again: {name: attune.events.queue}\n")

    assert "queues.again.name" in said
    assert "as queues.events has it" in said


def test_an_argument_that_has_a_key_of_its_own_is_refused() -> None:
    said = only_problem(EVENTS.replace("queue}", "queue, arguments: {x-message-ttl: 5}}"))

    assert "expected the queue's own key 'ttl'" in said


def test_a_number_without_a_unit_is_no_duration() -> None:
    assert "expected a duration" in only_problem(EVENTS.replace("queue}", "queue, ttl: 5000}"))


def test_the_name_of_a_field_in_code_is_no_key_of_the_file() -> None:
    said = only_problem(EVENTS.replace("queue}", "queue, ttl_ms: 5000}"))

    assert "'ttl_ms'" in said
    assert "did you mean 'ttl'?" in said


def test_environment_variables_are_put_in_before_values_get_their_type() -> None:
    text = EVENTS + ("consumers: {t: {service: '${WHO}', queue: events, prefetch: '${MANY:-7}'}}\n")

    topology = parse_topology(text, environment={"WHO": "sensor"})
    with_many = parse_topology(text, environment={"WHO": "sensor", "MANY": "20"})

    assert topology.consumers["t"] == ConsumerSpec(service="sensor", queue="events", prefetch=7)
    assert with_many.consumers["t"].prefetch_count == 20


def test_a_variable_that_is_not_set_is_a_problem_with_the_cure() -> None:
    problem = problems_of(EVENTS.replace("attune.events.queue", "'${NAME}'"))[0]

    assert problem.expected == "the environment variable NAME"
    assert problem.hint == "set it, or give a default: ${NAME:-…}"


def test_a_bare_variable_inside_of_braces_is_a_problem_with_the_cure() -> None:
    said = only_problem(EVENTS.replace("attune.events.queue", "${NAME}"))

    assert 'a variable is quoted: "${NAME}"' in said


def test_a_doubled_dollar_is_no_variable() -> None:
    topology = parse_topology(EVENTS.replace("attune.events.queue", "'$${NAME}'"))

    assert topology.queues["events"].name == "${NAME}"


def test_several_routing_keys_are_one_entry() -> None:
    topology = parse_topology(
        EVENTS + "bindings: [{source: events, destination: events, routing_keys: [a, b]}]\n"
    )

    assert topology.bindings[0].keys == ("a", "b")


def test_an_anchor_may_be_used_again() -> None:
    topology = parse_topology(
        EVENTS + "messages: {A: {exchange: events}}\n"
        "consumers:\n"
        "  one: {service: s, queue: events, handles: &types [A]}\n"
        "  two: {service: s, queue: events, handles: *types}\n"
    )

    assert topology.consumers["two"].handles == ("A",)


def test_aliases_that_explode_are_refused_before_they_do() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(12)
    )

    assert "values at most" in only_problem(bomb)


@pytest.mark.parametrize("deep", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000])
def test_nesting_without_end_is_refused(deep: str) -> None:
    assert f"{MAX_DEPTH} levels of nesting" in only_problem(f"queues: \n  {deep}")


@pytest.mark.parametrize(
    "text", ["", "- a list", "just text", "--- {version: 1}\n--- {version: 1}"]
)
def test_text_that_is_no_topology_is_a_problem(text: str) -> None:
    assert problems_of(text)


def test_bad_yaml_is_a_problem_with_its_line() -> None:
    said = only_problem("version: 1\nqueues: {a: [}\n")

    assert said.startswith("t.yaml:2:")


def test_tags_are_refused() -> None:
    problems = problems_of("version: !!python/object:os.system 1")

    assert "expected a value without a tag" in str(problems[-1])


def test_a_wider_prefetch_can_follow_the_concurrency() -> None:
    topology = parse_topology(
        EVENTS
        + "consumers: {t: {service: s, queue: events, concurrency: 4, prefetch: concurrency + 2}}\n"
    )

    assert topology.consumers["t"].prefetch_count == 6


def test_a_placeholder_must_be_a_parameter_of_its_family() -> None:
    said = only_problem(
        EVENTS + "families: {w: {parameters: [key], queues: {q: {name: 'w.{key}.{kye}'}}}}\n"
    )

    assert "expected a parameter of the family (key)" in said
    assert "did you mean 'key'?" in said


def test_a_queue_of_a_family_has_every_parameter_in_its_name() -> None:
    said = only_problem(EVENTS + "families: {w: {parameters: [id], queues: {q: {name: w}}}}\n")

    assert "expected a name with {id} in it" in said


def test_the_models_can_be_made_in_code_too() -> None:
    topology = Topology.model_validate({"version": 1, "queues": {"q": {"name": "q", "ttl_ms": 5}}})

    assert topology.queues["q"].ttl_ms == 5


def test_a_name_must_leave_room_for_what_the_library_adds_to_it() -> None:
    said = only_problem(
        f"version: 1\nqueues: {{q: {{name: {'n' * 250}, retry: {{backoff: [10s]}}}}}}\n"
    )

    assert "expected a name of at most 245 bytes, to which '.retry.10s' can be added" in said


def test_a_type_can_be_published_straight_to_a_queue() -> None:
    topology = parse_topology(
        EVENTS + 'messages: {M: {exchange: "", routing_key: attune.events.queue}}\n'
    )

    assert topology.route("M") == ("", "attune.events.queue", True)


def test_a_queue_that_the_server_names_can_have_no_retry_queues() -> None:
    said = only_problem(
        'version: 1\nqueues: {q: {name: "", exclusive: true, retry: {backoff: [1s]}}}\n'
    )

    assert "nothing can lead back to it" in said


LOG = """\
version: 1
queues:
  log: {{name: shop.log, type: stream}}
consumers:
  reader: {{service: reader, queue: log, offset: {offset}}}
"""


@pytest.mark.parametrize("offset", ["first", "last", "next", "stored", 0, 17, 2**63 - 1])
def test_a_consumer_of_a_stream_says_where_it_begins(offset: int | str) -> None:
    assert parse_topology(LOG.format(offset=offset)).consumers["reader"].offset == offset


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ('"2026-09-03T12:00:00Z"', datetime(2026, 9, 3, 12, tzinfo=UTC)),
        ('"2026-09-03T14:00:00.9+02:00"', datetime(2026, 9, 3, 12, tzinfo=UTC)),
        ("first", "first"),
        ("17", 17),
    ],
)
def test_the_broker_is_told_an_offset_by_its_type(
    written: str, moment: datetime | str | int
) -> None:
    offset = parse_topology(LOG.format(offset=written)).consumers["reader"].offset
    assert offset is not None
    assert stream_offset_argument(offset) == moment


@pytest.mark.parametrize(
    "offset",
    ["-1", "newest", '"17"', "true", '"2026-09-03T12:00:00"', '"1969-12-31T23:59:59Z"', str(2**63)],
)
def test_what_is_no_offset_is_a_problem_in_its_line(offset: str) -> None:
    problem = only_problem(LOG.format(offset=offset))

    assert problem.startswith("t.yaml:5:41 consumers.reader.offset: expected first, last, next, ")


def test_an_unquoted_moment_is_a_trap() -> None:
    assert "quote it" in only_problem(LOG.format(offset="2026-09-03"))


def test_a_variable_may_say_the_offset() -> None:
    text = LOG.format(offset='"${OFFSET:-first}"')

    assert parse_topology(text).consumers["reader"].offset == "first"


@pytest.mark.parametrize("kind", ["classic", "quorum", None])
def test_a_consumer_of_a_queue_has_no_offset(kind: str | None) -> None:
    said = f", type: {kind}" if kind else ""
    text = LOG.format(offset="first").replace(", type: stream", said)

    assert "expected no offset: queue 'log' is no stream" in only_problem(text)


def test_a_stream_by_default_has_offsets() -> None:
    text = LOG.format(offset="first").replace(", type: stream", "")

    assert parse_topology(f"{text}defaults: {{queue: {{type: stream}}}}\n")


def test_a_stored_offset_is_that_of_one_handler_at_a_time() -> None:
    text = LOG.format(offset="stored, concurrency: 2")

    assert "expected 1 beside `offset: stored`" in only_problem(text)


def test_a_stream_gets_no_retry_queues() -> None:
    text = LOG.format(offset="first").replace("stream", "stream, retry: {backoff: [1s]}")

    assert [*expand(parse_topology(text)).queues] == ["log"]

"""The plan: what set-up would do, from what was observed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attune_mq.broker.observation import (
    Absent,
    AmqpObservation,
    Indeterminate,
    ManagementObservation,
    ObservedQueue,
)
from attune_mq.broker.plan import Plan, make_plan, remedy
from attune_mq.topology.declarations import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import BrokerRules, Difference, Equal, Inequivalent
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.selection import needed_by
from attune_mq.topology_file import load_topology

FILE = """\
version: 1
exchanges:
  events: {name: attune.events, type: topic}
  dead:   {name: attune.dead, type: direct}
queues:
  work:
    name: attune.work
    ttl: 5m
    dead_letter: {to: dead, routing_key: work}
  dead:
    name: attune.work.dead
    dead_letter: false
bindings:
  - {source: events, destination: work, routing_key: "event.#"}
  - {source: dead, destination: dead, routing_key: work}
families:
  worker:
    parameters: [worker_id]
    queues:
      own: {name: "worker.{worker_id}.own"}
    bindings:
      - {source: events, destination: own, routing_key: "to.{worker_id}"}
"""
TOPOLOGY = parse_topology(FILE, file="topology.yaml")
SHIPPED = load_topology(Path(__file__).parents[2] / "topology.yaml", environment={})
ALL = declarations(expand(TOPOLOGY))
WORK = next(one for one in ALL if one.name == "attune.work")
NAMES = [
    "attune.events",
    "attune.dead",
    "attune.work",
    "attune.work.dead",
    "attune.events -> attune.work [event.#]",
    "attune.dead -> attune.work.dead [work]",
]


def listed(things: Iterable[Declaration], version: str = "3.10.8") -> ManagementObservation:
    """As if a broker had these, beside what every virtual host has."""
    everything = [*BUILT_IN, *things]
    return ManagementObservation(
        rules=BrokerRules(version),
        exchanges={one.name: one for one in everything if isinstance(one, ExchangeDeclaration)},
        queues={
            one.name: ObservedQueue(one.name, declaration=one)
            for one in everything
            if isinstance(one, QueueDeclaration)
        },
        bindings=tuple(one for one in everything if isinstance(one, BindingDeclaration)),
    )


BUILT_IN: tuple[Declaration, ...] = (
    ExchangeDeclaration("", "direct"),
    ExchangeDeclaration("amq.topic", "topic"),
    BindingDeclaration("", "attune.work", "queue", "attune.work"),
)


def names(steps: Iterable[object]) -> list[str]:
    return [step.declaration.name for step in steps]  # type: ignore[attr-defined]


def changed(before: Declaration, **fields: Any) -> list[Declaration]:
    """All that the topology wants, but one of them otherwise."""
    return [replace(one, **fields) if one is before else one for one in ALL]


def test_all_is_to_be_made_where_nothing_is_in_the_order_of_the_file() -> None:
    plan = make_plan(TOPOLOGY, listed([]))

    assert names(plan.create) == NAMES
    assert plan == Plan("management", plan.create)
    assert plan.has_differences


def test_nothing_is_to_be_done_where_all_is_as_the_file_says() -> None:
    plan = make_plan(TOPOLOGY, listed(ALL))

    assert names(plan.unchanged) == NAMES
    assert plan == Plan("management", plan.unchanged)
    assert not plan.has_differences


def test_each_object_comes_with_its_line_in_the_file() -> None:
    plan = make_plan(TOPOLOGY, listed([]))

    assert [step.where.line for step in plan.create] == [3, 4, 6, 10, 14, 15]
    assert str(plan.create[4].where) == "topology.yaml:14:5 bindings[0]"


def test_a_conflict_names_field_expected_found_line_and_remedy() -> None:
    arguments = {**WORK.arguments, "x-message-ttl": 60_000}

    [conflict] = make_plan(TOPOLOGY, listed(changed(WORK, arguments=arguments))).conflicts

    assert conflict.declaration == WORK
    assert (conflict.field, conflict.expected, conflict.found) == (
        "x-message-ttl",
        "300000",
        "60000",
    )
    assert str(conflict.where) == "topology.yaml:8:5 queues.work.ttl"
    assert remedy(conflict) == "`attune-mq migrate attune.work`"


def test_every_field_that_differs_is_a_conflict_over_the_http_api() -> None:
    plan = make_plan(TOPOLOGY, listed(changed(WORK, durable=False, arguments={})))

    fields = [conflict.field for conflict in plan.conflicts]
    assert fields == [
        "durable",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
    ]
    assert [conflict.found for conflict in plan.conflicts] == ["false", "none", "none", "none"]


def test_what_the_rule_for_all_queues_says_is_shown_at_the_rule() -> None:
    there = [
        replace(one, arguments={}) if one.name == "attune.events.queue" else one
        for one in declarations(expand(SHIPPED))
    ]

    places = [str(one.where) for one in make_plan(SHIPPED, listed(there)).conflicts]

    line = [text.startswith("dead_letter:") for text in SHIPPED.sources.text.split("\n")].index(
        True
    )
    assert [place.rpartition("topology.yaml")[2] for place in places] == [
        f":{line + 1}:1 dead_letter",
        f":{line + 1}:1 dead_letter",
    ]


def test_a_number_that_is_a_text_there_is_told_apart_from_it() -> None:
    arguments = {**WORK.arguments, "x-message-ttl": "300000"}

    [conflict] = make_plan(TOPOLOGY, listed(changed(WORK, arguments=arguments))).conflicts

    assert (conflict.expected, conflict.found) == ("300000 (int)", "300000 (of another type)")


def test_an_exchange_in_conflict_can_be_migrated_too() -> None:
    events = ALL[0]
    [conflict] = make_plan(TOPOLOGY, listed(changed(events, type="direct"))).conflicts

    assert (conflict.field, conflict.where.line) == ("type", 3)
    assert remedy(conflict) == f"`attune-mq migrate {events.name}`"


def test_a_queue_that_is_to_be_a_stream_needs_another_name() -> None:
    stream = changed(WORK, arguments={**WORK.arguments, "x-queue-type": "stream"})
    conflicts = make_plan(TOPOLOGY, listed(stream)).conflicts
    conflict = next(one for one in conflicts if one.field == "x-queue-type")

    assert "another name" in remedy(conflict)


def test_a_queue_of_another_connection_is_a_conflict_that_ends_with_it() -> None:
    plan = make_plan(TOPOLOGY, listed(changed(WORK, exclusive=True, durable=False)))
    conflict = plan.conflicts[0]

    assert (conflict.field, conflict.expected, conflict.found) == ("exclusive", "false", "true")
    assert "connection" in remedy(conflict)


def test_what_the_broker_silently_ignores_is_said_and_is_no_conflict() -> None:
    text = FILE.replace("    ttl: 5m\n", "    ttl: 5m\n    arguments: {x-mesage-ttl: 1}\n")
    topology = parse_topology(text, file="topology.yaml")

    plan = make_plan(topology, listed(ALL))

    assert names(plan.unchanged) == NAMES
    assert plan.conflicts == ()
    [ignored] = plan.ignored
    assert (ignored.field, ignored.expected, ignored.found) == ("x-mesage-ttl", "1", "none")
    assert ignored.where.line == 9


def test_what_the_file_does_not_have_is_extra_by_name_exchanges_first() -> None:
    others: list[Declaration] = [
        QueueDeclaration("b"),
        QueueDeclaration("a"),
        ExchangeDeclaration("z", "fanout"),
        BindingDeclaration("z", "a", "queue", ""),
        BindingDeclaration("attune.events", "attune.work", "queue", "event.old"),
    ]

    plan = make_plan(TOPOLOGY, listed([*others, *ALL]))

    assert names(plan.extra) == [
        "z",
        "a",
        "b",
        "attune.events -> attune.work [event.old]",
        "z -> a []",
    ]
    assert plan.has_differences


@pytest.mark.parametrize(
    "other",
    [
        ExchangeDeclaration("amq.rabbitmq.trace", "topic", internal=True),
        QueueDeclaration("amq.gen-JzTY20BRgKO-HjmUJj0wLg", durable=False),
        QueueDeclaration("of-a-connection", exclusive=True, durable=False),
        QueueDeclaration("worker.7.own"),
        QueueDeclaration("worker.a-b_c.own"),
    ],
)
def test_what_belongs_to_the_broker_a_connection_or_a_family_is_not_extra(
    other: ExchangeDeclaration | QueueDeclaration,
) -> None:
    things: list[Declaration] = [*ALL, other]
    if isinstance(other, QueueDeclaration):
        things.append(BindingDeclaration("", other.name, "queue", other.name))
        things.append(BindingDeclaration("attune.events", other.name, "queue", "to.7"))

    assert make_plan(TOPOLOGY, listed(things)).extra == ()


@pytest.mark.parametrize("name", ["worker.7.8.own", "worker..own", "worker.7.owner"])
def test_a_name_that_no_instance_of_a_family_has_is_extra(name: str) -> None:
    assert names(make_plan(TOPOLOGY, listed([*ALL, QueueDeclaration(name)])).extra) == [name]


def test_the_dead_letter_queues_of_instances_are_not_extra() -> None:
    name = "worker.7.cancel.dlq"
    plan = make_plan(SHIPPED, listed([*declarations(expand(SHIPPED)), QueueDeclaration(name)]))
    assert plan.extra == ()


def test_bindings_are_told_apart_by_their_arguments() -> None:
    [binding] = [one for one in ALL if one.name.endswith("[event.#]")]

    plan = make_plan(TOPOLOGY, listed(changed(binding, arguments={"x-match": "all"})))

    assert names(plan.create) == names(plan.extra) == [binding.name]


def test_a_binding_that_is_there_twice_but_for_the_width_of_a_number_is_extra_once() -> None:
    [binding] = [one for one in ALL if one.name.endswith("[event.#]")]
    assert names(make_plan(TOPOLOGY, listed([*ALL, binding])).extra) == [binding.name]


def test_the_http_api_does_not_tell_how_wide_a_number_inside_of_a_table_is() -> None:
    """AMQP would declare a second binding beside one of another width."""
    topology = parse_topology(
        """
        version: 1
        exchanges: {x: {name: x, type: headers}}
        queues: {q: {name: q, dead_letter: false}}
        bindings:
          - {source: x, destination: q, arguments: {plain: 5}}
          - {source: x, destination: q, arguments: {inside: [a, {of: 5}]}}
          - {source: x, destination: q, arguments: {inside: [a, {of: true}]}}
        """
    )

    plan = make_plan(topology, listed(declarations(expand(topology))))

    assert [one.declaration.arguments for one in plan.unknown] == [{"inside": ["a", {"of": 5}]}]
    assert "how wide a number" in plan.unknown[0].detail


def heard(**verdicts: object) -> AmqpObservation:
    """All is equal but for these, by name with underscores."""
    said = {name.replace("_", "."): verdict for name, verdict in verdicts.items()}
    things = [one for one in ALL if not isinstance(one, BindingDeclaration)]
    return AmqpObservation(
        {(one.kind, one.name): said.get(one.name, Equal()) for one in things}  # type: ignore[misc]
    )


def test_over_amqp_bindings_are_unknown_and_not_left_out() -> None:
    plan = make_plan(TOPOLOGY, heard())

    assert names(plan.unchanged) == NAMES[:4]
    assert names(plan.unknown) == NAMES[4:]
    assert {(one.why, one.detail) for one in plan.unknown} == {
        ("amqp", "AMQP cannot list bindings")
    }
    assert plan.source == "amqp"
    assert not plan.has_differences


@pytest.mark.parametrize("end", ["attune_events", "attune_work"])
def test_over_amqp_a_binding_is_known_to_be_missing_where_one_of_its_ends_is(end: str) -> None:
    plan = make_plan(TOPOLOGY, heard(**{end: Absent()}))

    assert names(plan.create) == [end.replace("_", "."), NAMES[4]]
    assert names(plan.unknown) == [NAMES[5]]


def test_over_amqp_what_could_not_be_compared_is_unknown_with_the_reason() -> None:
    plan = make_plan(TOPOLOGY, heard(attune_work=Indeterminate("no permission")))

    assert plan.unknown[0].declaration.name == "attune.work"
    assert plan.unknown[0].detail == "no permission"


def test_over_amqp_a_conflict_is_the_one_that_the_broker_named() -> None:
    difference = Difference("x-message-ttl", 300_000, "60000")

    plan = make_plan(TOPOLOGY, heard(attune_work=Inequivalent((difference,))))

    [conflict] = plan.conflicts
    assert (conflict.expected, conflict.found, conflict.where.line) == ("300000", "60000", 8)


def test_what_one_service_needs_is_planned_for_alone() -> None:
    plan = make_plan(needed_by(SHIPPED, "notifier"), listed([]))

    assert names(plan.create) == [
        "attune.notifications",
        "attune.dlx",
        "attune.dlx.direct",
        "attune.notifications.queue",
        "attune.notifications.queue.dlq",
        "attune.notifications -> attune.notifications.queue []",
        "attune.dlx.direct -> attune.notifications.queue.dlq [attune.notifications.queue]",
        "attune.dlx -> attune.dlx.direct []",
    ]

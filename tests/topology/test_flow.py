"""Which message types can arrive where, from the file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from attune_mq.topology.flow import Flow, trace
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.source import Path as SourcePath

ROOT = Path(__file__).parents[2]
SHIPPED = trace(parse_topology((ROOT / "topology.yaml").read_text(encoding="utf-8")))


def flow(text: str) -> Flow:
    return trace(parse_topology(f"version: 1\n{text}"))


def destinations(found: Flow, message_type: str) -> frozenset[SourcePath]:
    published = (each for each in found.publications if each.message_type == message_type)
    return frozenset().union(*(each.queues for each in published))


def unmatched(found: Flow) -> list[SourcePath]:
    paths = [
        (*at, "bindings", index)
        for at, block in found.topology.blocks()
        for index in range(len(block.bindings))
    ]
    return [path for path in paths if path not in found.used_bindings]


def test_every_message_type_of_the_shipped_file_arrives_somewhere() -> None:
    assert [p.message_type for p in SHIPPED.publications if not p.queues] == []


def test_every_consumer_of_the_shipped_file_handles_all_that_can_arrive_at_it() -> None:
    for spec in SHIPPED.topology.consumers.values():
        assert SHIPPED.arrivals["queues", spec.queue] <= set(spec.handles)


def test_a_family_takes_part_with_its_templates_taken_literally() -> None:
    dispatches = ("families", "worker", "queues", "executions")

    assert SHIPPED.arrivals[dispatches] == {"ExecutionRequested"}
    assert destinations(SHIPPED, "ExecutionRequested") == {dispatches, ("queues", "executions")}


def test_what_dies_in_a_queue_arrives_in_the_next() -> None:
    """A dispatch that no worker took goes back to the executor; a dead letter queue has it all."""
    assert "ExecutionRequested" in SHIPPED.arrivals["queues", "executions"]
    assert SHIPPED.arrivals["queues", "events.dlq"] == SHIPPED.arrivals["queues", "events"]


CONTRACTS = """
exchanges:
  events:  {name: x.events,  type: topic}
  other:   {name: x.other,   type: direct}
  dead:    {name: x.dead,    type: topic}
queues:
  created: {name: q.created, dead_letter: {to: dead}, retry: {attempts: 3, backoff: [1s, 5s]}}
  all:     {name: q.all,     dead_letter: false}
  nobody:  {name: q.nobody,  dead_letter: false}
  dead:    {name: q.dead,    dead_letter: false}
bindings:
  - {source: events, destination: created, routing_keys: [thing.created, thing.crated]}
  - {source: events, destination: all,     routing_key: "#"}
  - {source: other,  destination: nobody,  routing_key: thing.created}
  - {source: dead,   destination: dead,    routing_key: "*.created"}
messages:
  ThingCreated: {exchange: events, routing_key: thing.created, publishers: [a]}
  ThingDeleted: {exchange: events, routing_key: thing.deleted, publishers: [a]}
  ThingLost:    {exchange: other,  routing_key: thing.lost,    publishers: [a]}
consumers:
  c: {service: c, queue: created, handles: [ThingCreated]}
"""


def test_a_type_that_no_binding_takes_has_no_destination() -> None:
    assert destinations(flow(CONTRACTS), "ThingLost") == frozenset()
    assert destinations(flow(CONTRACTS), "NeverHeardOf") == frozenset()


def test_types_arrive_where_their_keys_lead() -> None:
    arrivals = flow(CONTRACTS).arrivals

    assert arrivals["queues", "created"] == {"ThingCreated"}
    assert arrivals["queues", "all"] == {"ThingCreated", "ThingDeleted"}
    assert arrivals["queues", "nobody"] == frozenset()
    assert arrivals["queues", "dead"] == {"ThingCreated"}


def test_what_is_to_be_tried_again_arrives_in_the_retry_queues() -> None:
    arrivals = flow(CONTRACTS).arrivals

    assert arrivals["queues", "created.retry.1s"] == {"ThingCreated"}
    assert arrivals["queues", "created.retry.5s"] == {"ThingCreated"}


def test_a_binding_that_no_message_can_match_is_found_in_the_file() -> None:
    found = flow(CONTRACTS)

    paths = unmatched(found)

    keys = [found.topology.bindings[int(path[1])].routing_key for path in paths]
    assert keys == ["thing.crated", "thing.created"]
    assert [found.topology.where(*path).path for path in paths] == [
        "bindings[0]",
        "bindings[2]",
    ]


def test_the_keys_are_known_with_which_messages_arrive() -> None:
    keys = flow(CONTRACTS).routing_keys

    assert keys["queues", "all"] == {"thing.created", "thing.deleted"}
    assert keys["queues", "created"] == {
        "thing.created",
        "q.created",  # of a message that comes back for another try
    }
    assert keys["queues", "nobody"] == frozenset()


@pytest.mark.parametrize("kind", ["headers", "x-consistent-hash"])
def test_what_may_happen_is_taken_to_happen(kind: str) -> None:
    """Nobody knows the headers of a message from the file, nor what a plugin does with it."""
    maybe = flow(f"""
exchanges:
  x:    {{name: x, type: {kind}, alternate_exchange: rest}}
  rest: {{name: rest, type: fanout}}
queues:
  some:   {{name: some,   dead_letter: false}}
  others: {{name: others, dead_letter: false}}
bindings:
  - {{source: x,    destination: some, arguments: {{format: pdf}}}}
  - {{source: rest, destination: others}}
messages:
  Printed: {{exchange: x, publishers: [a]}}
""")

    assert destinations(maybe, "Printed") == {("queues", "some"), ("queues", "others")}
    assert unmatched(maybe) == []


def test_types_that_go_round_in_a_cycle_are_followed_once() -> None:
    circle = flow("""
queues:
  a: {name: a, dead_letter: {to: "", routing_key: b}}
  b: {name: b, dead_letter: {to: "", routing_key: a}}
exchanges: {x: {name: x, type: fanout}}
bindings: [{source: x, destination: a}]
messages: {Round: {exchange: x}}
""")

    assert circle.arrivals == {("queues", "a"): {"Round"}, ("queues", "b"): {"Round"}}

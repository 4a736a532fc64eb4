"""The simulated broker: where messages go. Its answers are those of brokers, see
``test_routing_against_broker.py``; here stands what the answers look like, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from attune_mq.errors import InvalidInput
from attune_mq.topology.exchange_types import Hop, TopicTable
from attune_mq.topology.families import Instance, including, instance_with_key, instance_with_queue
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology, UnknownName
from attune_mq.topology.routing import Router
from tests.topology.topic_oracle import matches

SHIPPED = parse_topology((Path(__file__).parents[2] / "topology.yaml").read_text(encoding="utf-8"))


def topology(text: str) -> Topology:
    return parse_topology(f"version: 1\n{text}")


def router(text: str, **options: Any) -> Router:
    return Router(topology(text), **options)


CHAIN = router("""
exchanges:
  first:  {name: x.first,  type: topic, alternate_exchange: rest}
  second: {name: x.second, type: direct}
  inner:  {name: x.inner,  type: fanout, internal: true}
  rest:   {name: x.rest,   type: fanout}
queues:
  one:  {name: q.one,  dead_letter: false}
  two:  {name: q.two,  dead_letter: false}
  lost: {name: q.lost, dead_letter: false}
bindings:
  - {source: first,  destination: second, destination_type: exchange, routing_key: "a.#"}
  - {source: first,  destination: one,    routing_key: "*.b"}
  - {source: second, destination: one,    routing_key: a.b}
  - {source: second, destination: two,    routing_key: a.b}
  - {source: second, destination: inner,  destination_type: exchange, routing_key: a.c}
  - {source: inner,  destination: two}
  - {source: inner,  destination: first,  destination_type: exchange}
  - {source: rest,   destination: lost}
""")


def test_each_queue_gets_a_message_once_however_many_ways_lead_there() -> None:
    assert CHAIN.route("x.first", "a.b").queues == ("q.one", "q.two")


def test_the_paths_name_every_binding_that_brings_the_message_to_a_queue() -> None:
    paths = CHAIN.route("x.first", "a.b").paths

    assert sorted(
        [(hop.source, hop.destination, hop.routing_key) for hop in way] for way in paths
    ) == [
        [("x.first", "q.one", "*.b")],
        [("x.first", "x.second", "a.#"), ("x.second", "q.one", "a.b")],
        [("x.first", "x.second", "a.#"), ("x.second", "q.two", "a.b")],
    ]


def test_every_step_says_where_in_the_file_it_stands() -> None:
    (way,) = CHAIN.route("x.second", "a.c").paths

    assert [CHAIN.topology.where(*hop.path).line for hop in way] == [17, 18]


def test_exchanges_that_lead_round_to_each_other_route_a_message_once() -> None:
    assert CHAIN.route("x.second", "a.c").queues == ("q.two",)


def test_the_alternate_exchange_takes_what_no_binding_takes() -> None:
    routing = CHAIN.route("x.first", "z")

    assert routing.queues == ("q.lost",)
    assert [hop.via for hop in routing.paths[0]] == ["alternate exchange", "binding"]


def test_the_alternate_exchange_has_no_part_in_what_a_binding_takes_in_vain() -> None:
    """A binding to an exchange has taken the message, whatever that exchange makes of it."""
    routing = CHAIN.route("x.first", "a.z")

    assert routing.unroutable
    assert routing.dead_ends == ("x.second",)


def test_the_default_exchange_gives_a_message_to_the_queue_of_that_name() -> None:
    assert CHAIN.route("", "q.one").queues == ("q.one",)
    assert CHAIN.route("", "one").unroutable


def test_publishing_to_an_internal_exchange_is_refused() -> None:
    routing = CHAIN.route("x.inner")

    assert routing.refused == "403 ACCESS_REFUSED - cannot publish to internal exchange 'x.inner'"
    assert routing.unroutable


def test_publishing_to_the_exchange_of_the_firehose_is_refused() -> None:
    refused = CHAIN.route("amq.rabbitmq.trace").refused
    assert refused is not None
    assert refused.startswith("403")


def test_publishing_to_an_exchange_that_is_not_there_is_refused() -> None:
    assert CHAIN.route("x.nowhere").refused == "404 NOT_FOUND - no exchange 'x.nowhere'"


def test_built_in_exchanges_are_there_without_being_declared() -> None:
    routing = CHAIN.route("amq.topic", "a")

    assert routing.refused is None
    assert routing.unroutable


def test_a_message_goes_by_the_keys_in_cc_and_bcc_as_well() -> None:
    headers = {"CC": ["q.two", 7], "BCC": ["q.lost", "q.two"]}

    assert CHAIN.route("", "q.one", headers).queues == ("q.lost", "q.one", "q.two")
    assert CHAIN.route("x.second", "nothing", {"CC": ["a.b"]}).queues == ("q.one", "q.two")


@pytest.mark.parametrize("value", ["q.one", None, {"a": 1}, 7])
@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_cc_and_bcc_that_are_no_lists_are_refused(header: str, value: Any) -> None:
    refused = CHAIN.route("", "q.one", {header: value}).refused
    assert refused is not None
    assert refused.startswith("406")
    assert header in refused

    with pytest.raises(InvalidInput, match=header):
        CHAIN.dead_letter("q.one", headers={header: value})


HEADERS = router("""
exchanges:
  x: {name: x, type: headers}
queues:
  all:      {name: all,      dead_letter: false}
  any:      {name: any,      dead_letter: false}
  present:  {name: present,  dead_letter: false}
  with_x:   {name: with-x,   dead_letter: false}
  copied:   {name: copied,   dead_letter: false}
bindings:
  - {source: x, destination: all,     arguments: {format: pdf, pages: 2, x-ignored: 1}}
  - {source: x, destination: any,     arguments: {x-match: any, format: pdf, pages: 2}}
  - {source: x, destination: present, arguments: {x-match: all, draft: null}}
  - {source: x, destination: with_x,  arguments: {x-match: any-with-x, x-tenant: 7}}
  - {source: x, destination: copied,  arguments: {x-match: any, CC: null, BCC: null}}
""")


@pytest.mark.parametrize(
    ("headers", "queues"),
    [
        ({}, ()),
        ({"format": "pdf", "pages": 2}, ("all", "any")),
        ({"format": "pdf"}, ("any",)),
        ({"pages": "2"}, ()),
        ({"pages": 2.0}, ("any",)),
        ({"pages": True}, ()),
        ({"draft": True}, ("present",)),
        ({"draft": None}, ("present",)),
        ({"x-tenant": 7}, ("with-x",)),
        ({"CC": []}, ("copied",)),
        ({"BCC": []}, ()),
    ],
)
def test_a_headers_exchange_compares_names_values_and_types(
    headers: dict[str, Any], queues: tuple[str, ...]
) -> None:
    assert HEADERS.route("x", "the key does not matter", headers).queues == queues


def test_what_a_plugins_exchange_does_is_said_to_be_unknown() -> None:
    hashing = router("""
exchanges:
  x: {name: x, type: x-consistent-hash, alternate_exchange: rest}
  rest: {name: rest, type: fanout}
  z: {name: z, type: fanout}
queues:
  q: {name: q, dead_letter: {to: z}}
bindings:
  - {source: x, destination: q, routing_key: "1"}
  - {source: rest, destination: q}
  - {source: z, destination: x, destination_type: exchange}
""")

    routing = hashing.route("x", "k")
    assert (routing.queues, routing.unsimulated, routing.unroutable) == ((), ("x",), False)
    death = hashing.dead_letter("q")
    assert (death.queues, death.unsimulated, death.dropped) == ((), ("x",), None)


def test_a_server_named_queue_goes_by_its_key() -> None:
    named = router("""
exchanges: {x: {name: x, type: fanout}}
queues: {replica: {name: "", exclusive: true}}
bindings: [{source: x, destination: replica}]
""")

    assert named.route("x").queues == ("<server-named replica>",)


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "", "*", "#"]), max_size=4), max_size=8),
    st.lists(st.sampled_from(["a", "b", "", "c"]), max_size=5),
)
@settings(deadline=None)
def test_all_patterns_at_once_match_as_each_by_itself(
    patterns: list[list[str]], words: list[str]
) -> None:
    key = ".".join(words)
    hops = [
        Hop("x", f"q{i}", "queue", "binding", ".".join(pattern))
        for i, pattern in enumerate(patterns)
    ]

    found = TopicTable(hops).matched((key,), {})

    assert sorted(found) == sorted(hop for hop in hops if matches(hop.routing_key, key))


def test_an_instance_of_a_family_is_found_by_its_queue_and_by_its_key() -> None:
    seven = Instance("worker", {"worker_id": "7"})

    assert instance_with_queue(SHIPPED, "worker.7.executions") == seven
    assert instance_with_key(SHIPPED, "attune.executions", "execution.cancel.worker.7") == seven
    assert instance_with_queue(SHIPPED, "worker.7.nothing") is None
    assert instance_with_key(SHIPPED, "attune.events", "execution.cancel.worker.7") is None


def test_messages_go_to_an_instance_of_a_family_once_it_is_included() -> None:
    whole = Router(SHIPPED).topology
    including_seven = Router(including(whole, Instance("worker", {"worker_id": "7"})))
    key = "execution.dispatch.worker.7"

    assert Router(SHIPPED).route("attune.executions", key).unroutable
    assert including_seven.route("attune.executions", key).queues == ("worker.7.executions",)
    assert including_seven.route("attune.executions", "execution.dispatch.worker.8").unroutable


def test_there_is_no_dead_letter_of_a_queue_that_is_not_there() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'q\.one'"):
        CHAIN.dead_letter("q.on")

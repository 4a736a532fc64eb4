"""A topology written as YAML is read as the same topology, and the text is pleasant to read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from attune_mq import Topology, expand, parse_topology
from attune_mq.topology import write_topology
from attune_mq.topology.source import Path as SourcePath
from attune_mq.topology.writing import WIDTH
from tests.topology.any_topology import topologies

SHIPPED = Path(__file__).parents[2] / "topology.yaml"


@given(topologies())
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_reads_as_the_same_topology(topology: Topology) -> None:
    assert parse_topology(write_topology(topology)) == topology


def test_the_shipped_file_survives_being_written_whole_and_expanded() -> None:
    shipped = parse_topology(SHIPPED.read_text("utf-8"))

    for topology in (shipped, expand(shipped)):
        text = write_topology(topology)

        assert parse_topology(text) == topology
        assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_short_entries_stand_in_one_line_in_columns() -> None:
    topology = parse_topology(
        """
        version: 1
        exchanges:
          a: {name: a, type: topic}
          events: {name: attune.events, type: fanout}
        bindings:
          - {source: a, destination: events, destination_type: exchange, routing_key: "#"}
        """
    )

    assert write_topology(topology).splitlines() == [
        "version: 1",
        "",
        "exchanges:",
        "  a:      {name: a,             type: topic}",
        "  events: {name: attune.events, type: fanout}",
        "",
        "bindings:",
        '  - {source: a, destination: events, destination_type: exchange, routing_key: "#"}',
    ]


def test_a_long_list_is_wrapped_and_not_cut() -> None:
    keys = [f"key.number.{number}" for number in range(40)]
    topology = parse_topology(
        "version: 1\n"
        "exchanges: {a: {name: a, type: direct}}\n"
        "queues: {q: {name: q}}\n"
        f"bindings: [{{source: a, destination: q, routing_keys: [{', '.join(keys)}]}}]\n"
    )

    text = write_topology(topology)

    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert parse_topology(text).bindings[0].keys == tuple(keys)


@pytest.mark.parametrize("name", ["${HOME}", "$${HOME}", "${A:-b}", "a${B}c$${D}"])
def test_a_text_that_looks_like_a_variable_comes_back_as_itself(name: str) -> None:
    topology = Topology.model_validate({"version": 1, "queues": {"q": {"name": name}}})

    loaded = parse_topology(write_topology(topology), environment={"HOME": "x", "B": "y"})

    assert loaded.queues["q"].name == name


def test_comments_stand_above_what_they_speak_of() -> None:
    topology = Topology.model_validate(
        {
            "version": 1,
            "exchanges": {"e": {"name": "e", "type": "topic"}},
            "queues": {"a": {"name": "a"}, "b": {"name": "b", "ttl_ms": 1_000}},
            "bindings": [{"source": "e", "destination": "a"}, {"source": "e", "destination": "b"}],
        }
    )
    comments: dict[SourcePath, str] = {
        ("queues", "b"): "waits here\nfor a second",
        ("bindings", 1): "a binding",
        ("queues", "b", "ttl"): "short",
    }

    text = write_topology(topology, comments=comments, header="at the top")

    assert text.splitlines() == [
        "# at the top",
        "",
        "version: 1",
        "",
        "exchanges:",
        "  e: {name: e, type: topic}",
        "",
        "queues:",
        "  a: {name: a}",
        "  # waits here",
        "  # for a second",
        "  b:",
        "    name: b",
        "    # short",
        "    ttl: 1s",
        "",
        "bindings:",
        "  - {source: e, destination: a}",
        "  # a binding",
        "  - {source: e, destination: b}",
    ]
    assert parse_topology(text) == topology

"""The JSON Schema takes what can be loaded, and refuses what an editor should mark."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from attune_mq import Topology, parse_topology
from attune_mq.topology import topology_schema
from tests.topology.any_topology import topologies

ROOT = Path(__file__).parents[2]
SCHEMA = topology_schema()
REMARKS = {"$schema", "title", "description", "default", "examples", "definitions"}
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
}


def accepts(value: Any, schema: Mapping[str, Any] = SCHEMA) -> bool:
    """As much of a validator of draft 7 as our schema needs; any other keyword is an error."""
    return all(
        _holds(keyword, said, value, schema)
        for keyword, said in schema.items()
        if keyword not in REMARKS
    )


def _holds(keyword: str, said: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    match keyword:
        case "$ref":
            return accepts(value, SCHEMA["definitions"][said.removeprefix("#/definitions/")])
        case "anyOf":
            return any(accepts(value, each) for each in said)
        case "type":
            return TYPES[said](value)
        case "const":
            return type(value) is type(said) and value == said
        case "enum":
            return value in said
        case "pattern":
            return not isinstance(value, str) or re.search(said, value) is not None
        case "minimum":
            return not isinstance(value, int) or value >= said
        case "maximum":
            return not isinstance(value, int) or value <= said
        case "minLength" | "minItems":
            return not isinstance(value, str | list) or len(value) >= said
        case "items":
            return not isinstance(value, list) or all(accepts(each, said) for each in value)
        case "required":
            return not isinstance(value, dict) or value.keys() >= set(said)
        case "properties":
            return not isinstance(value, dict) or all(
                accepts(each, said[name]) for name, each in value.items() if name in said
            )
        case "additionalProperties":
            further = value.keys() - schema.get("properties", {}) if isinstance(value, dict) else ()
            return said is True or all(said and accepts(value[name], said) for name in further)
    raise AssertionError(f"the schema has a keyword that no test knows: {keyword}")


def plain(topology: Topology) -> Any:
    return _plain(topology.model_dump(by_alias=True, exclude_defaults=True))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("path", ["topology.yaml", "examples/later-topology.yaml"])
def test_the_schema_takes_the_files_of_the_project(path: str) -> None:
    assert accepts(plain(parse_topology((ROOT / path).read_text("utf-8"))))


@given(topologies())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_schema_takes_every_topology(topology: Topology) -> None:
    assert accepts(plain(topology))


@pytest.mark.parametrize(
    "part",
    [
        {"queues": {"q": {"name": "q", "max_length": "${LIMIT:-1000}"}}},
        {"queues": {"q": {"name": "q", "ttl": "${TTL:-5m}", "durable": "${DURABLE}"}}},
        {"queues": {"q": {"name": "q", "type": "${TYPE:-quorum}", "retry": {"attempts": "${N}"}}}},
        {"queues": {"q": {"name": "q", "delivery_limit": "${N}", "max_priority": "${N}"}}},
        {"consumers": {"c": {"service": "s", "queue": "q", "prefetch": "${PREFETCH}"}}},
        {"consumers": {"c": {"service": "s", "queue": "q", "concurrency": "${N}"}}},
        {"consumers": {"c": {"service": "s", "queue": "q", "prefetch": "concurrency + 2"}}},
        {"consumers": {"c": {"service": "s", "queue": "q", "offset": "${OFFSET:-first}"}}},
        {"broker": {"version": "${VERSION:-4.3}"}},
        {"exchanges": {"e": {"name": "${NAME}", "type": "${TYPE}"}}},
        {"exchanges": {"e": {"name": "e", "type": "x-delayed-message"}}},
    ],
)
def test_a_variable_may_stand_for_any_single_value(part: Mapping[str, Any]) -> None:
    assert accepts({"version": 1, **part})


@pytest.mark.parametrize(
    "part",
    [
        {"version": 2},
        {"version": "1"},
        {"version": True},
        {"queus": {}},
        {"queues": {"q": {}}},
        {"queues": {"q": {"name": 1}}},
        {"queues": {"q": {"name": "q", "tll": "5m"}}},
        {"queues": {"q": {"name": "q", "ttl": 5}}},
        {"queues": {"q": {"name": "q", "ttl": "5 minutes"}}},
        {"queues": {"q": {"name": "q", "type": "qurum"}}},
        {"queues": {"q": {"name": "q", "dead_letter": {"to": "x", "ttl": "1h"}}}},
        {"queues": {"q": {"name": "q", "max_length": -1}}},
        {"queues": {"q": {"name": "q", "max_length": None}}},
        {"exchanges": {"e": {"name": "e", "type": "tpoic"}}},
        {"exchanges": {"e": {"name": "", "type": "topic"}}},
        {"bindings": [{"source": "e"}]},
        {"bindings": {"source": "e", "destination": "q"}},
        {"consumers": {"c": {"service": "s", "queue": "q", "prefetch": "concurrency - 1"}}},
        {"consumers": {"c": {"service": "s", "queue": "q", "offset": "newest"}}},
        {"consumers": {"c": {"service": "s", "queue": "q", "offset": -1}}},
        {"families": {"f": {"parameters": []}}},
    ],
)
def test_what_can_not_be_meant_is_refused(part: Mapping[str, Any]) -> None:
    assert not accepts({"version": 1, **part})


def test_an_editor_gets_descriptions_and_defaults() -> None:
    queue = SCHEMA["definitions"]["Queue"]["properties"]

    assert queue["ttl"]["description"] == "How long a message may wait here (`x-message-ttl`)."
    assert SCHEMA["definitions"]["DeadLetterQueue"]["properties"]["ttl"]["default"] == "24h"
    assert SCHEMA["definitions"]["ConsumerSpec"]["properties"]["prefetch"]["default"] == 10

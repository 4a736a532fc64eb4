"""RabbitMQ's definitions, both ways: nothing changes, and what cannot be said is named."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, assume, given, settings
from pydantic import ValidationError

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.definitions import (
    InvalidDefinitions,
    export_definitions,
    import_definitions,
    left_out_of_export,
)
from attune_mq.errors import InvalidInput
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology
from tests.definitions.definitions_on_broker import definitions_of, import_into, objects_of
from tests.topology.any_topology import topologies
from tests.versions import Rabbit

SHIPPED = Path(__file__).parents[2] / "topology.yaml"
FIXTURES = {path.stem: path for path in (Path(__file__).parent / "fixtures").glob("*.json")}
CORPUS = Path(os.environ.get("ATTUNE_MQ_CORPUS") or Path(__file__).parents[3] / "shared" / "corpus")

UNSAID: dict[str, list[str]] = {
    "built-in-exchanges": [
        "exchange 'amq.direct': every virtual host has it by itself",
        "exchange '': every virtual host has it by itself",
        "binding  -> invoices [invoices]: the default exchange binds each queue by itself, and "
        "nothing else",
    ],
    "dead-letters-by-a-policy": [
        "policy 'dead-letters': sets dead-letter-exchange on queues that match '^shop\\\\.'",
        "policy 'shadowed': sets alternate-exchange, message-ttl on exchanges and queues that "
        "match '.*'",
    ],
    "descriptions-and-types": [
        "the description of 1 of the bindings; it is kept as a comment",
        "the description of 1 of the exchanges; it is kept as a comment",
        "the description of 1 of the queues; it is kept as a comment",
        "'exclusive' of the queues 'parcels': RabbitMQ does not read it",
        "'owner' of the queues 'parcels': RabbitMQ does not read it",
        "'type: quorum' of the queues 'parcels': RabbitMQ does not read it",
    ],
    "floats-and-nulls": [
        "queue 'invoices': its argument 'x-message-ttl' cannot be said: 60000.0 (numbers are whole "
        "numbers here)",
        "queue 'invoices': its argument 'ratio' cannot be said: 0.5 (numbers are whole numbers "
        "here)",
        "queue 'invoices': its argument 'nothing' cannot be said: null (RabbitMQ refuses to import "
        "it)",
        "queue 'invoices': its argument 'huge' cannot be said: 9223372036854775808 (a number has "
        "64 bits at most)",
        "binding orders -> invoices []: its argument 'weight' cannot be said: 1.5 (numbers are "
        "whole numbers here)",
    ],
    "named-by-the-server": ["queues[1]: a queue without a name, and what is bound to it"],
    "one-virtual-host-of-4": ["virtual host 'shop': its queues without a type are quorum"],
    "plugin-exchange-types": [
        "exchange 'odd': its type 'lvc' is none that we know",
        "binding odd -> b [k]: there is no exchange 'odd'",
    ],
    "queue-twice": [
        "exchange 'orders': declared again (exchanges[1]) with other properties; the first counts",
        "queue 'invoices': declared again (queues[1]) with other properties; the first counts",
    ],
    "several-virtual-hosts": [
        "virtual host 'shop': its 1 exchange, 2 queues, 1 binding; name it to import it"
    ],
    "shovel-and-federation": [
        "parameter 'from-the-shop' of shovel",
        "parameter 'warehouse' of federation-upstream",
        "operator policy 'bounded': sets max-length on queues that match '.*'",
        "global parameters 'cluster_name'",
    ],
    "undeclared-ends": [
        "binding orders -> labels [b]: there is no queue 'labels'",
        "binding customers -> invoices [c]: there is no exchange 'customers'",
        "binding orders -> router [d]: there is no exchange 'router'",
    ],
    "users-and-permissions": [
        "virtual host '/': its queues without a type are quorum",
        "virtual host '/': its limits",
        "users 'shop': a topology does not say who may log in",
        "permissions of 'shop'; `acl` tells what a service needs",
        "topic permissions of 'shop'; `acl` tells what a service needs",
    ],
}
"""Of each fixture all that is named as not sayable; of the others, nothing."""


def as_json(path: Path) -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads(
        path.read_bytes().decode(json.detect_encoding(path.read_bytes()))
    )
    return read


def there_and_back(data: bytes, vhost: str | None = None) -> set[str]:
    imported = import_definitions(data, vhost)
    assert parse_topology(imported.yaml_text) == imported.topology
    return objects_of(export_definitions(imported.topology))


@pytest.mark.parametrize("name", sorted(FIXTURES))
def test_what_a_topology_cannot_say_is_named_and_nothing_else(name: str) -> None:
    imported = import_definitions(FIXTURES[name].read_bytes())

    assert list(imported.not_imported) == UNSAID.get(name, [])
    comments = " ".join(imported.yaml_text.replace("\n#", " ").split())
    for sentence in imported.not_imported:
        assert " ".join(sentence.split()) in comments


@pytest.mark.parametrize("name", sorted(FIXTURES.keys() - {"floats-and-nulls"}))
def test_definitions_come_back_unchanged_but_for_what_was_named(name: str) -> None:
    data = FIXTURES[name].read_bytes()
    imported = import_definitions(data)
    vhost = "shop" if name == "only-another-virtual-host" else "/"
    declared = objects_of(as_json(FIXTURES[name]), vhost)

    back = there_and_back(data)

    assert back <= declared
    lost = [json.loads(each.partition(" ")[2]) for each in declared - back]
    for each in lost:
        known_as = repr(each["name"]) if "name" in each else f"{each['source']} -> "
        if each.get("name") == "" and "type" not in each:
            known_as = "a queue without a name"
        assert any(known_as in sentence for sentence in imported.not_imported), each


def test_an_argument_that_cannot_be_said_leaves_the_others() -> None:
    back = export_definitions(
        import_definitions(FIXTURES["floats-and-nulls"].read_bytes()).topology
    )

    assert [queue["arguments"] for queue in back["queues"]] == [{"x-max-length": 7}]
    assert [binding["arguments"] for binding in back["bindings"]] == [{"weight": 1}]


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_public_projects_come_back_unchanged(path: Path) -> None:
    definitions = as_json(path)
    vhosts = {entry.get("vhost") for name in ("exchanges", "queues") for entry in definitions[name]}

    for vhost in vhosts:
        assert there_and_back(path.read_bytes(), vhost) == objects_of(definitions, vhost)


@given(topologies())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_topology_comes_back_from_definitions(topology: Topology) -> None:
    try:
        definitions = _without_nulls(export_definitions(topology))
    except ValidationError:  # a name so long that its dead letter queue's is too long
        assume(False)
    imported = import_definitions(json.dumps(definitions))

    assert imported.not_imported == ()
    assert objects_of(export_definitions(imported.topology)) == objects_of(definitions)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value if each is not None]
    return value


# a real broker


def test_rabbitmq_imports_what_is_exported_and_has_just_that(
    broker: EmbeddedBroker, broker_url: str
) -> None:
    vhost = unquote(urlsplit(broker_url).path[1:])
    exported = export_definitions(parse_topology(SHIPPED.read_text("utf-8")), vhost)

    import_into(broker, exported)

    expected = Rabbit.of(broker).exported(exported)
    assert objects_of(definitions_of(broker, vhost)) == objects_of(expected, vhost)


@pytest.mark.parametrize(
    "name",
    [
        "bindings-told-apart-by-arguments",
        "delayed-retry-through-a-ttl-queue",
        "names-that-are-hard-to-write",
        "undeclared-ends",
    ],
)
def test_a_broker_set_up_from_an_import_has_what_the_definitions_declare(
    name: str, broker: EmbeddedBroker, broker_url: str
) -> None:
    vhost = unquote(urlsplit(broker_url).path[1:])
    topology = import_definitions(FIXTURES[name].read_bytes()).topology

    import_into(broker, export_definitions(topology, vhost))
    from_broker = import_definitions(json.dumps(definitions_of(broker, vhost)))

    assert objects_of(export_definitions(from_broker.topology)) == objects_of(
        Rabbit.of(broker).stored(export_definitions(topology))
    )


def test_importing_what_is_exported_leaves_the_virtual_host_itself_as_it_is(
    broker: EmbeddedBroker,
) -> None:
    """RabbitMQ resets the description of a virtual host that stands in what it imports."""
    broker.rabbitmqctl("add_vhost", "described", "--description", "keep me")
    exported = export_definitions(parse_topology(SHIPPED.read_text("utf-8")), "described")

    import_into(broker, exported)

    listed = broker.rabbitmqctl("list_vhosts", "name", "description", "--formatter", "json")
    broker.rabbitmqctl("delete_vhost", "described")
    assert {"name": "described", "description": "keep me"} in json.loads(listed)


# what the topology is like


def test_keys_are_short_and_readable() -> None:
    topology = import_definitions(
        json.dumps(
            {
                "exchanges": [
                    {"name": "attune.events", "type": "topic"},
                    {"name": "attune.dlx", "type": "fanout"},
                    {"name": "amq.events", "type": "topic"},
                ],
                "queues": [
                    {"name": name}
                    for name in ("attune.events.queue", "attune.queue", "attune.events", "a b{c}")
                ],
            }
        )
    ).topology

    assert list(topology.exchanges) == ["attune.events", "attune.dlx", "amq.events"]
    assert list(topology.queues) == ["attune.events.queue", "attune", "attune.events", "a-b-c"]


def test_a_common_beginning_is_left_out_of_keys() -> None:
    definitions = {
        "exchanges": [{"name": "attune.events", "type": "topic"}],
        "queues": [{"name": "attune.events.queue"}, {"name": "attune.executions.queue"}],
    }

    topology = import_definitions(json.dumps(definitions)).topology

    assert list(topology.exchanges) == ["events"]
    assert list(topology.queues) == ["events", "executions"]


def test_what_rabbitmq_says_with_arguments_the_file_says_with_its_own_keys() -> None:
    imported = import_definitions(FIXTURES["delayed-retry-through-a-ttl-queue"].read_bytes())

    assert imported.yaml_text.splitlines()[7:] == [
        "exchanges:",
        "  orders:       {name: orders,       type: topic}",
        "  orders.retry: {name: orders.retry, type: fanout}",
        "",
        "queues:",
        "  invoices:      {name: invoices,      dead_letter: {to: orders.retry}}",
        "  invoices.wait: {name: invoices.wait, ttl: 30s, "
        'dead_letter: {to: "", routing_key: invoices}}',
        "",
        "bindings:",
        '  - {source: orders,       destination: invoices, routing_key: "order.*"}',
        "  - {source: orders.retry, destination: invoices.wait}",
    ]


def test_bindings_that_differ_in_their_key_alone_are_one_entry() -> None:
    definitions = {
        "exchanges": [{"name": "e", "type": "direct"}],
        "queues": [{"name": "q"}],
        "bindings": [
            {"source": "e", "destination": "q", "routing_key": key} for key in ("a", "b", "c")
        ],
    }

    (binding,) = import_definitions(json.dumps(definitions)).topology.bindings

    assert binding.routing_keys == ("a", "b", "c")


def test_the_version_of_the_broker_is_what_the_file_is_meant_for() -> None:
    imported = import_definitions(FIXTURES["version-of-a-developer"].read_bytes())

    assert imported.topology.broker is not None
    assert imported.topology.broker.version == "3.8.10"


def test_descriptions_are_kept_as_comments() -> None:
    text = import_definitions(FIXTURES["descriptions-and-types"].read_bytes()).yaml_text

    for description in ("Everything that is ordered", "Read by billing", "paid ones"):
        assert f"  # {description}\n" in text


def test_the_virtual_host_can_be_chosen() -> None:
    data = FIXTURES["several-virtual-hosts"].read_bytes()

    assert list(import_definitions(data, "shop").topology.queues) == ["labels", "parcels"]
    assert list(import_definitions(data).topology.queues) == ["invoices"]
    assert list(import_definitions(data, "empty").topology.queues) == []
    with pytest.raises(
        InvalidDefinitions, match="expected the virtual host 'spam', got '/', 'shop'"
    ):
        import_definitions(data, "spam")


def test_among_several_virtual_hosts_without_the_usual_one_a_name_is_asked_for() -> None:
    data = json.dumps({"queues": [{"name": "q", "vhost": "a"}, {"name": "q", "vhost": "b"}]})

    with pytest.raises(InvalidDefinitions, match=r"the name of the virtual host.*got 'a', 'b'"):
        import_definitions(data)


def test_no_password_of_the_definitions_reaches_the_file() -> None:
    for name in ("shovel-and-federation", "users-and-permissions"):
        imported = import_definitions(FIXTURES[name].read_bytes())

        assert "hunter2" not in imported.yaml_text
        assert "c2VjcmV0" not in imported.yaml_text


def test_export_names_what_definitions_cannot_hold() -> None:
    topology = parse_topology(
        "version: 1\n"
        'queues: {replies: {name: "", exclusive: true}}\n'
        "families: {worker: {parameters: [id], queues: {q: {name: 'w.{id}'}}}}\n"
    )

    assert export_definitions(topology)["queues"] == []
    assert list(left_out_of_export(topology)) == [
        "queue 'replies' and its bindings: its consumer makes it, on its own connection",
        "family 'worker': it exists for each id, once it is instantiated",
    ]


# what is no definitions file


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected RabbitMQ definitions as JSON, got nothing: it is empty"),
        (b" \r\n", "got nothing: it is empty"),
        (b"<!DOCTYPE html><title>Log in</title>", "got HTML or XML .is it the answer of a proxy"),
        (b"version: 1\nqueues: {}\n", "got YAML .a topology file needs no import"),
        (b'{"queues": [}', "x.json:1:13: expected JSON, got this: Expecting value"),
        (b'{"queues": \xff}', "expected JSON in UTF-8, got the byte 0xff at offset 11"),
        (b"[1, 2]", "expected one JSON object with exchanges, queues and bindings, got a list"),
        (b'"queues"', 'got "queues"'),
        (b"null", "got nothing"),
        (b"{}", "expected RabbitMQ definitions with exchanges, queues, bindings, got an empty"),
        (b'{"a": 1, "b": 2}', "got the keys a, b"),
        (b'{"error": "not_authorised", "reason": "Login failed"}', 'API: "Login failed"'),
        (b'{"queues": {"q": {}}}', "x.json queues: expected a list, got a mapping"),
        (b'{"queues": ["q"]}', 'x.json queues\\[0\\]: expected an object, got "q"'),
        (b'{"queues": [{}]}', "x.json queues\\[0\\].name: expected a text, got nothing"),
        (b'{"queues": [{"name": 5}]}', "queues\\[0\\].name: expected a text, got 5"),
        (b'{"queues": [{"name": "\\ud800"}]}', "expected a text in Unicode"),
        (b'{"queues": [{"name": "q", "vhost": 1}]}', "queues\\[0\\].vhost: expected a text, got 1"),
        (b'{"queues": [{"name": "q", "durable": 1}]}', "durable: expected true or false, got 1"),
        (b'{"queues": [{"name": "q", "arguments": [1]}]}', "arguments: expected an object"),
        (b'{"exchanges": [{"name": "e"}]}', "exchanges\\[0\\].type: expected a text, got nothing"),
        (b'{"bindings": [{"source": "e"}]}', "bindings\\[0\\].destination: expected a text"),
        (
            b'{"bindings": [{"source": "e", "destination": "q", "destination_type": "topic"}]}',
            'destination_type: expected queue or exchange, got "topic"',
        ),
        (b'{"queues": [{"name": "%s"}]}' % (b"x" * 256), "name: expected 255 bytes at most"),
        (b'{"queues": ' + b"[" * 40 + b"]" * 40 + b"}", "expected 30 levels of nesting at most"),
        (b"[" * 200_000, "expected 30 levels of nesting at most, got many more"),
        (b'{"a": %s}' % (b"9" * 5_000), "expected JSON, got this: Exceeds the limit"),
    ],
)
def test_what_is_no_definitions_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        import_definitions(data, file="x.json")


def test_all_that_is_wrong_is_said_at_once() -> None:
    data = json.dumps({"queues": [{"name": 1}, {"name": "q", "durable": "yes"}], "exchanges": [{}]})

    with pytest.raises(InvalidDefinitions) as refused:
        import_definitions(data)

    assert [problem.where.path for problem in refused.value.problems] == [
        "exchanges[0].name",
        "exchanges[0].type",
        "queues[0].name",
        "queues[1].durable",
    ]

"""The reference of the topology file says what the models say: every key, no other, its default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from attune_mq.topology import contracts, model, objects
from attune_mq.topology.declarations import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    declarations,
)
from attune_mq.topology.document import MAX_DEPTH, MAX_VALUES
from attune_mq.topology.durations import format_duration
from attune_mq.topology.expansion import expand
from attune_mq.topology.fields import TopologyModel
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.source import InvalidTopology
from attune_mq.topology_file import MAX_FILE_BYTES
from tests.docs.markdown import Block, code_names, page

REFERENCE = page("topology-file.md")

SECTIONS: Mapping[str, type[TopologyModel]] = MappingProxyType(
    {
        "The file": model.Topology,
        "`broker`": model.BrokerExpectation,
        "`defaults`": model.Defaults,
        "`defaults.queue`": model.QueueDefaults,
        "`exchanges`": objects.Exchange,
        "`queues`": objects.Queue,
        "`queues.*.retry`": objects.Retry,
        "`dead_letter`": objects.DeadLetterQueue,
        "`dead_letter` with `to`": objects.DeadLetterTo,
        "`queues.*.dead_letter`": objects.OwnDeadLetterQueue,
        "`bindings`": objects.Binding,
        "`messages`": contracts.MessageContract,
        "`consumers`": contracts.ConsumerSpec,
        "`families`": contracts.Family,
    }
)


def models() -> set[type[TopologyModel]]:
    """Every model that a file is made of."""
    return {
        value
        for module in (objects, contracts, model)
        for value in vars(module).values()
        if isinstance(value, type) and TopologyModel in value.__bases__
    }


def written_default(field: FieldInfo) -> str:
    """As the column ``default`` has it."""
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == () or value == {} or isinstance(value, BaseModel):
        return "none"
    if field.alias and isinstance(value, int):
        return f"`{format_duration(value)}`"
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def test_every_model_has_its_section() -> None:
    assert set(SECTIONS.values()) == models()


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_table_of_a_section_has_every_key_of_the_model_and_no_other(heading: str) -> None:
    rows = REFERENCE.rows_under(heading)
    fields = SECTIONS[heading].model_fields
    documented = [name for row in rows for name in code_names(row["key"])]

    assert documented == [field.alias or name for name, field in fields.items()]
    assert all(row["meaning"] and row["value"] for row in rows)


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_table_of_a_section_has_the_defaults_of_the_model(heading: str) -> None:
    fields = SECTIONS[heading].model_fields
    documented = {row["key"]: row["default"] for row in REFERENCE.rows_under(heading)}

    assert documented == {
        f"`{field.alias or name}`": written_default(field) for name, field in fields.items()
    }


def examples() -> Iterator[tuple[Block, Block | None]]:
    """Each YAML block, with the text that shows what comes of it, where one follows."""
    blocks = REFERENCE.blocks
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "yaml":
            is_text = following is not None and following.language == "text"
            yield block, following if is_text else None


def seen(text: str) -> str:
    """What comes of a file: its problems, or what it has on the broker."""
    try:
        topology = parse_topology(text, file="topology.yaml")
    except InvalidTopology as error:
        return f"{error}\n"
    return "".join(f"{described(one)}\n" for one in declarations(expand(topology)))


def described(declaration: Declaration) -> str:
    match declaration:
        case ExchangeDeclaration(name=name, type=kind):
            return f"exchange {name} ({kind})"
        case BindingDeclaration():
            return f"binding {declaration.name}"
        case queue:
            return f"queue {queue.name} {json.dumps(dict(queue.arguments))}"


@pytest.mark.parametrize(("example", "shown"), list(examples()))
def test_an_example_loads_or_says_what_is_shown(example: Block, shown: Block | None) -> None:
    if shown is None:
        parse_topology(example.text)
    else:
        assert seen(example.text) == shown.text


NAMED = "version: 1\nqueues:\n  a:\n    name: {}\n"
BOUND = """
version: 1
queues: {{a: {{name: a}}}}
bindings:
  - source: amq.topic
    destination: a
    {}
"""
STRICT_ROWS = [row["written"] for row in REFERENCE.rows_under("Strict YAML")]
OTHER_TRAPS = {
    "`routing_key: #`": BOUND.format("routing_key: #"),
    "`routing_key: *.created`": BOUND.format("routing_key: *.created"),
    "the same key twice": NAMED.format("a\n    name: b"),
    "a tag, `!!str`": NAMED.format("!!str a"),
    "`---` and a second document": NAMED.format("a\n---\nversion: 1"),
    "`<<: *base`": "version: 1\nqueues:\n  a: &base {name: a}\n  b: {<<: *base, name: b}\n",
}


def traps() -> Iterator[str]:
    """Files with what the table says that one does not write."""
    for cell in STRICT_ROWS:
        if cell in OTHER_TRAPS:
            yield OTHER_TRAPS[cell]
        else:
            yield from (NAMED.format(scalar) for scalar in code_names(cell))


@pytest.mark.parametrize("text", list(traps()))
def test_what_readers_of_yaml_disagree_about_is_an_error(text: str) -> None:
    with pytest.raises(InvalidTopology):
        parse_topology(text)


def test_the_table_of_traps_has_those_that_are_tried_here() -> None:
    assert set(OTHER_TRAPS) <= set(STRICT_ROWS)


def test_the_limits_of_a_file_are_those_of_the_code() -> None:
    limits = (
        f"{MAX_FILE_BYTES // 1024**2} MiB large, hold {MAX_VALUES:,} values, and be {MAX_DEPTH}"
    )

    assert limits in " ".join(REFERENCE.text.split())

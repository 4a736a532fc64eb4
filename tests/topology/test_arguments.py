"""One table of arguments: a row in it is all that a new argument takes."""

from __future__ import annotations

import json

import pytest

from attune_mq.definitions import export_definitions, import_definitions
from attune_mq.lint import lint
from attune_mq.migration.survey import _corrected
from attune_mq.topology.arguments import CLASSIC, QUEUE_ARGUMENTS, QUORUM, QueueArgument, Whole
from attune_mq.topology.declarations import QueueDeclaration, declarations
from attune_mq.topology.equivalence import (
    BrokerRules,
    Difference,
    Equal,
    Inequivalent,
    SilentlyIgnored,
    answer_to_queue,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.source import InvalidTopology

RENAMED = "x-made-up-priority"
"""What the key ``max_priority`` becomes, of a broker that never was: quorum queues take it."""


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    row = QueueArgument(RENAMED, Whole(most=9), quorum=21, field="max_priority", since=(4, 2))
    monkeypatch.delitem(QUEUE_ARGUMENTS, "x-max-priority")
    monkeypatch.setitem(QUEUE_ARGUMENTS, RENAMED, row)


def queue(text: str, version: str = "4.3") -> str:
    return f"version: 1\nbroker: {{version: '{version}'}}\nqueues:\n  q: {{name: q, {text}}}\n"


def found(text: str) -> set[str]:
    return {each.rule for each in lint(parse_topology(text)) if "priority" in each.message}


def test_a_key_declares_it() -> None:
    (declared,) = declarations(expand(parse_topology(queue("type: quorum, max_priority: 7"))))

    assert declared.arguments == {"x-queue-type": QUORUM, RENAMED: 7}


def test_a_file_cannot_say_it_beside_its_key() -> None:
    with pytest.raises(InvalidTopology, match=f"own key 'max_priority', got .* {RENAMED}"):
        parse_topology(queue(f"type: quorum, arguments: {{{RENAMED}: 7}}"))


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (queue("type: quorum, max_priority: 9"), set()),
        (queue("type: quorum, max_priority: 10"), {"argument-value-refused"}),
        (queue("type: classic, max_priority: 9"), {"argument-not-for-queue-type"}),
        (queue(f"type: quorum, arguments: {{{RENAMED}: high}}"), {"argument-of-wrong-type"}),
        (
            queue(f"type: quorum, arguments: {{{RENAMED}: high}}", "4.1"),
            {"argument-of-wrong-type", "argument-ignored-by-version"},
        ),
        (queue("arguments: {x-max-priority: 9}"), {"unknown-argument"}),
    ],
)
def test_lint_knows_it(text: str, rules: set[str]) -> None:
    assert found(text) == rules


def test_it_is_compared_with_what_the_broker_has() -> None:
    seven, eight = (
        QueueDeclaration("q", arguments={"x-queue-type": QUORUM, RENAMED: n}) for n in (7, 8)
    )
    difference = (Difference(RENAMED, 7, 8),)

    assert answer_to_queue(seven, seven, BrokerRules("4.3")) == Equal()
    assert answer_to_queue(seven, eight, BrokerRules("4.3")) == Inequivalent(difference)
    assert answer_to_queue(seven, eight, BrokerRules("4.1")) == SilentlyIgnored(difference)
    assert RENAMED not in BrokerRules("4.3").compared_arguments(CLASSIC)


def test_definitions_are_imported_with_its_key_and_exported_with_it() -> None:
    arguments = {"x-queue-type": QUORUM, RENAMED: 7}
    definitions = {"queues": [{"name": "q", "vhost": "/", "durable": True, "arguments": arguments}]}

    imported = import_definitions(json.dumps(definitions))

    assert "max_priority: 7" in imported.yaml_text
    assert export_definitions(imported.topology)["queues"][0]["arguments"] == arguments


def test_a_migration_reads_its_value_from_the_brokers_words() -> None:
    assert _corrected(QueueDeclaration("q"), Difference(RENAMED, None, "7")).arguments == {
        RENAMED: 7
    }

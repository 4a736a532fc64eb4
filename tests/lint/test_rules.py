"""Every rule finds its fault in a file that has it, at the line, and nothing where it is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from attune_mq.lint import RULES, Rule, lint
from attune_mq.topology.loading import parse_topology

FIXTURES = Path(__file__).parent / "fixtures"
MARK = "# <- here"

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def found_in(path: Path, rule: Rule) -> list[tuple[str, int]]:
    topology = parse_topology(path.read_text(), file=path.name)
    findings = lint(topology, notes=rule.severity == "note")
    return [(finding.rule, finding.where.line) for finding in findings]


def marked_lines(path: Path) -> list[int]:
    lines = enumerate(path.read_text().splitlines(), start=1)
    return [number for number, line in lines if MARK in line]


@each_rule
def test_a_rule_finds_its_fault_where_it_stands_and_nothing_else(rule: Rule) -> None:
    path = FIXTURES / rule.id / "fails.yaml"
    marked = marked_lines(path)
    assert marked
    assert found_in(path, rule) == [(rule.id, line) for line in marked]


@each_rule
def test_nothing_is_found_once_it_is_mended(rule: Rule) -> None:
    assert found_in(FIXTURES / rule.id / "passes.yaml", rule) == []


def test_every_fixture_is_of_a_rule() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == {rule.id for rule in RULES}


@each_rule
def test_a_rule_says_what_it_is_about_why_and_what_to_do(rule: Rule) -> None:
    assert rule.summary.endswith(".")
    assert "\n" not in rule.summary
    assert rule.severity in ("error", "warning", "note")
    assert rule.rationale.endswith((".", ")"))
    assert rule.fix.endswith(".")


def test_each_rule_has_an_id_of_its_own() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)

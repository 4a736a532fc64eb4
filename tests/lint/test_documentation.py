"""What the documentation says of rules and of historical faults is what lint says."""

from __future__ import annotations

import re
from pathlib import Path

from attune_mq import parse_topology
from attune_mq.lint import RULES, Finding, lint
from tests.lint import rule_pages

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "examples" / "faulty-topology.yaml"
FAULTS_PAGE = ROOT / "docs" / "faults.md"


def findings(path: Path) -> tuple[Finding, ...]:
    return lint(parse_topology(path.read_text(), file=str(path.relative_to(ROOT))))


def test_the_pages_of_the_rules_are_current() -> None:
    """If not: python -m tests.lint.rule_pages."""
    written = {path.name: path.read_text() for path in rule_pages.PAGES.glob("*.md")}
    assert written == dict(rule_pages.pages())


def test_each_historical_fault_is_found_in_the_line_that_is_marked_with_its_rule() -> None:
    known = {rule.id for rule in RULES}
    marked = [
        (rule_id, number)
        for number, line in enumerate(FAULTY.read_text().splitlines(), start=1)
        if (rule_id := line.rpartition("  # ")[2]) in known
    ]
    assert [(each.rule, each.where.line) for each in findings(FAULTY)] == marked


def test_the_page_of_faults_quotes_every_finding_as_it_is() -> None:
    quoted = re.findall(r"```text\n(.*?)```", FAULTS_PAGE.read_text(), re.DOTALL)
    lines = [line for block in quoted for line in block.splitlines()]
    assert sorted(lines) == sorted(str(finding) for finding in findings(FAULTY))


def test_the_page_of_faults_quotes_the_file_as_it_is() -> None:
    there = {line.strip() for line in FAULTY.read_text().splitlines()}
    quoted = re.findall(r"```yaml\n(.*?)```", FAULTS_PAGE.read_text(), re.DOTALL)
    assert quoted
    for block in quoted:
        assert {line.strip() for line in block.splitlines()} <= there


def test_the_page_of_faults_links_to_the_rule_of_every_finding() -> None:
    linked = set(re.findall(r"\(rules/([a-z-]+)\.md\)", FAULTS_PAGE.read_text()))
    assert linked == {finding.rule for finding in findings(FAULTY)}


def test_the_shipped_topology_has_no_error() -> None:
    shipped = findings(ROOT / "topology.yaml")
    assert [(each.rule, each.severity) for each in shipped] == [
        ("queue-without-consumer", "warning"),
    ]


def test_what_is_said_of_the_later_topology_is_true() -> None:
    """As Attune's own: nothing is bound to the keys of these two messages, and these queues stay
    when their worker is gone for good."""
    later = findings(ROOT / "examples" / "later-topology.yaml")
    assert [(each.rule, each.message.split()[0].rstrip(",")) for each in later] == [
        ("message-unroutable", "ExecutionCancelRequested"),
        ("message-unroutable", "InquiryCreated"),
        ("family-queue-without-limit", "queue"),
        ("family-queue-without-limit", "queue"),
        ("family-queue-without-limit", "queue"),
    ]

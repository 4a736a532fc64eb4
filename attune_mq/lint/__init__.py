"""Faults of design, found in a topology file without a broker.

    for finding in lint(parse_topology(text, file="topology.yaml")):
        print(finding)

One function a rule, in modules by theme; what they look up stands in :mod:`.facts`.
"""

from __future__ import annotations

from attune_mq.lint import (
    arguments,
    bindings,
    consumers,
    dead_letters,
    messages,
    names,
    passwords,
    queues,
    retries,
    suppressions,
    versions,
)
from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Finding, Rule, Severity
from attune_mq.topology.model import Topology

__all__ = ["RULES", "Finding", "Rule", "Severity", "lint"]

_THEMES = (messages, bindings, queues, dead_letters, retries, consumers, arguments, versions)
RULES: tuple[Rule, ...] = tuple(
    value
    for theme in (*_THEMES, names, passwords, suppressions)
    for value in vars(theme).values()
    if isinstance(value, Rule)
)
"""All rules, by theme."""


def lint(topology: Topology, *, notes: bool = False) -> tuple[Finding, ...]:
    """Everything that is wrong with a topology as it was loaded (not expanded), in the order of
    its file; without what the file suppresses (:mod:`attune_mq.lint.suppressions`). ``notes``: with
    what is not wrong, and worth a thought.

    A finding on something that the library adds points at the line that led to it. A topology
    made in code has no lines: its findings all stand in line 0, and none can be suppressed.
    """
    facts = Facts(topology)
    # A topology with such a name cannot be expanded, so that no other rule can be checked.
    if unexpandable := tuple(names.name_too_long.findings(facts)):
        return unexpandable
    findings = [finding for rule in RULES for finding in rule.findings(facts)]
    remaining = suppressions.unsuppressed(findings, facts, {rule.id for rule in RULES})
    kept = (finding for finding in remaining if notes or finding.severity != "note")
    return tuple(sorted(kept, key=lambda each: (each.where.line, each.where.column)))

"""Faults of design, found in a topology file without a broker.

    for finding in lint(parse_topology(text, file="topology.yaml")):
        print(finding)

One function a rule, in modules by theme; what they look up stands in :mod:`.facts`. ``RULES``
holds all of them, each with its id, severity, summary, story and fix.
"""

from __future__ import annotations

from attune_mq.lint import (
    arguments,
    bindings,
    consumers,
    dead_letters,
    excuses as excuse_rules,
    messages,
    names,
    passwords,
    queues,
    retries,
    versions,
)
from attune_mq.lint.excuses import excused
from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Finding, Rule, Severity
from attune_mq.topology.model import Topology

__all__ = ["RULES", "Finding", "Rule", "Severity", "lint"]

RULES: tuple[Rule, ...] = (
    *messages.RULES,
    *bindings.RULES,
    *queues.RULES,
    *dead_letters.RULES,
    *retries.RULES,
    *consumers.RULES,
    *arguments.RULES,
    *versions.RULES,
    *names.RULES,
    *passwords.RULES,
    *excuse_rules.RULES,
)
"""All rules, by theme."""


def lint(topology: Topology, *, notes: bool = False) -> tuple[Finding, ...]:
    """Everything that is wrong with a topology as it was loaded (not expanded), in the order of
    its file; without what the file excuses (:mod:`attune_mq.lint.excuses`). ``notes``: with what is
    not wrong, and worth a thought.

    A finding on something that the library adds points at the line that led to it. A topology
    made in code has no lines: its findings all stand in line 0, and nothing can be excused.
    """
    facts = Facts(topology)
    # A topology with such a name cannot be expanded, and nothing else be said of it.
    if unexpandable := tuple(names.name_too_long.findings(facts)):
        return unexpandable
    findings = [finding for rule in RULES for finding in rule.findings(facts)]
    remaining = [
        finding
        for finding in excused(findings, facts, {rule.id for rule in RULES})
        if notes or finding.severity != "note"
    ]
    return tuple(sorted(remaining, key=lambda each: (each.where.line, each.where.column)))

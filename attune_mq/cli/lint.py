"""``attune-mq lint``: faults of design, without a broker."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attune_mq.cli.context import FOUND, OK, Context
from attune_mq.lint import RULES, Finding, Rule, lint
from attune_mq.lint.passwords import masked
from attune_mq.lint.reports import github_annotation, sarif

SUMMARY = (
    "Find faults of design in the topology file, without a broker. Exits 1 when it does. "
    "A note is no fault."
)
WIDTH = 96
_COLOURS = {"error": "31;1", "warning": "33;1", "quiet": "2", "strong": "1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rules", action="store_true", help="say what the rules are, and why")
    parser.add_argument(
        "--to",
        choices=("sarif", "github"),
        help="for continuous integration: a SARIF 2.1.0 log, or annotations of a GitHub workflow",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.rules:
        _show_rules(context)
        return OK
    topology = context.topology()
    said = [_from_here(finding) for finding in lint(topology, notes=True)]
    findings = [finding for finding in said if finding.severity != "note"]
    notes = [finding for finding in said if finding.severity == "note"]
    if arguments.to == "sarif":
        context.line(json.dumps(sarif(findings, RULES, tool_version=version("attune-mq"))))
    elif arguments.to == "github":
        for finding in findings:
            context.line(github_annotation(finding))
    elif context.is_json:
        told = {"findings": findings, "notes": notes}
        context.emit({name: [as_json(one) for one in some] for name, some in told.items()})
    else:
        _Text(context, topology.sources.text.split("\n")).show(findings)
        for note in notes:
            context.note(str(note))
    return FOUND if findings else OK


def _from_here(finding: Finding) -> Finding:
    """The file as seen from the working directory, which is what editors and reports go by."""
    path = Path(finding.where.file)
    if not path.is_absolute() or not path.is_relative_to(Path.cwd()):
        return finding
    where = finding.where._replace(file=os.path.relpath(path))
    return Finding(finding.rule, finding.severity, where, finding.message, finding.fix)


def as_json(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "where": finding.where._asdict(),
        "message": finding.message,
        "fix": finding.fix,
    }


class _Text:
    """Findings for people; in colour where a terminal shows them."""

    def __init__(self, context: Context, lines: Sequence[str]) -> None:
        self._context = context
        self._lines = lines

    def show(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._finding(finding)
        counts = Counter(finding.severity for finding in findings)
        said = [f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in sorted(counts)]
        self._context.line(", ".join(said) or "nothing found")

    def _finding(self, finding: Finding) -> None:
        where = finding.where
        place = f"{where.file}:{where.line}:{where.column}" if where.line else where.file
        kind = self._in(finding.severity, finding.severity)
        self._context.line(f"{self._in('strong', place)}: {kind}: {finding.rule}")
        self._paragraph(finding.message, "  ")
        if 0 < where.line <= len(self._lines):
            source = masked(self._lines[where.line - 1].strip())
            shown = source if len(source) <= WIDTH else f"{source[:WIDTH]}…"
            self._context.line(self._in("quiet", f"    {where.line} | {shown}"))
        self._paragraph(f"fix: {finding.fix}", "  ")
        self._context.line()

    def _paragraph(self, text: str, indent: str) -> None:
        self._context.line(
            textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
        )

    def _in(self, colour: str, text: str) -> str:
        if not self._context.is_coloured:
            return text
        return f"\033[{_COLOURS[colour]}m{text}\033[0m"


def _show_rules(context: Context) -> None:
    if context.is_json:
        context.emit({"rules": [_rule_as_json(rule) for rule in RULES]})
        return
    for rule in RULES:
        context.line(f"{rule.id} ({rule.severity})")
        for paragraph in (rule.summary, *rule.rationale.split("\n\n"), f"Fix: {rule.fix}"):
            context.line(
                textwrap.fill(paragraph, WIDTH, initial_indent="  ", subsequent_indent="  ")
            )
        context.line()


def _rule_as_json(rule: Rule) -> dict[str, str]:
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "summary": rule.summary,
        "why": rule.rationale,
    }

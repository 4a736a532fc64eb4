"""Check the design of the topology file, without a broker. Exit code 1: errors or warnings were
found. Notes do not count."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from attune_mq.cli.context import Context
from attune_mq.cli.output import QUIET, RED, STRONG, YELLOW, Styled, counted, relative
from attune_mq.exit_codes import EXIT_FINDINGS, EXIT_OK
from attune_mq.lint import RULES, Finding, lint
from attune_mq.lint.passwords import masked
from attune_mq.lint.reports import github_annotation, sarif

WIDTH = 96
_STYLES = {"error": RED, "warning": YELLOW}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rules", action="store_true", help="list the rules and their rationale")
    add("--to", choices=("sarif", "github"), help="SARIF 2.1.0, or GitHub workflow annotations")


def run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.rules:
        _show_rules(context)
        return EXIT_OK
    topology = context.topology()
    found = [replace(one, where=relative(one.where)) for one in lint(topology, notes=True)]
    findings = [finding for finding in found if finding.severity != "note"]
    notes = [finding for finding in found if finding.severity == "note"]
    if arguments.to == "sarif":
        context.line(json.dumps(sarif(findings, RULES, tool_version=version("attune-mq"))))
    elif arguments.to == "github":
        for finding in findings:
            context.line(github_annotation(finding))
    elif context.is_json:
        lists = {"findings": findings, "notes": notes}
        context.emit({name: [as_json(one) for one in some] for name, some in lists.items()})
    else:
        _show(findings, topology.sources.text.split("\n"), context)
        for note in notes:
            context.note(str(note))
    return EXIT_FINDINGS if findings else EXIT_OK


def as_json(finding: Finding) -> dict[str, Any]:
    return vars(finding) | {"where": finding.where._asdict()}


def _show(findings: Sequence[Finding], lines: Sequence[str], context: Context) -> None:
    for finding in findings:
        _show_finding(finding, lines, context)
    counts = Counter(finding.severity for finding in findings)
    summary = ", ".join(counted(counts[severity], severity) for severity in sorted(counts))
    context.line(summary or "no findings")


def _show_finding(finding: Finding, lines: Sequence[str], context: Context) -> None:
    where = finding.where
    place = f"{where.file}:{where.line}:{where.column}" if where.line else where.file
    severity = Styled(finding.severity, _STYLES[finding.severity])
    context.line(Styled(place, STRONG), ": ", severity, f": {finding.rule}")
    _show_paragraph(finding.message, context)
    if 0 < where.line <= len(lines):
        source = masked(lines[where.line - 1].strip())
        shown = source if len(source) <= WIDTH else f"{source[:WIDTH]}…"
        context.line(Styled(f"    {where.line} | {shown}", QUIET))
    _show_paragraph(f"fix: {finding.fix}", context)
    context.line()


def _show_paragraph(text: str, context: Context) -> None:
    for line in textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  "):
        context.line(line)


def _show_rules(context: Context) -> None:
    if context.is_json:
        rules = [
            {
                "rule": rule.id,
                "severity": rule.severity,
                "summary": rule.summary,
                "why": rule.rationale,
            }
            for rule in RULES
        ]
        context.emit({"rules": rules})
        return
    for rule in RULES:
        context.line(f"{rule.id} ({rule.severity})")
        for paragraph in (rule.summary, *rule.rationale.split("\n\n"), f"Fix: {rule.fix}"):
            _show_paragraph(paragraph, context)
        context.line()

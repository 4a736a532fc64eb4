"""Findings as other programs read them: SARIF 2.1.0, and GitHub's annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from attune_mq.lint.rule import Finding, Rule
from attune_mq.topology.source import Where

SARIF_VERSION = "2.1.0"
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(findings: Sequence[Finding], rules: Sequence[Rule], *, tool_version: str) -> Any:
    """One SARIF log with one run, as plain lists and dicts.

    Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    index = {rule.id: number for number, rule in enumerate(rules)}
    driver = {
        "name": "attune-mq lint",
        "version": tool_version,
        "rules": [_descriptor(rule) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, index[finding.rule]) for finding in findings],
    }
    return {"$schema": SARIF_SCHEMA, "version": SARIF_VERSION, "runs": [run]}


def _descriptor(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.rationale},
        "help": {"text": rule.fix, "markdown": rule.fix},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.severity,
        "message": {"text": f"{finding.message}. {finding.fix}"},
        "locations": [{"physicalLocation": _location(finding.where)}],
    }


def _location(where: Where) -> dict[str, Any]:
    path = PurePath(where.file)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    location: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if where.line:
        location["region"] = {"startLine": where.line, "startColumn": where.column}
    return location


def github_annotation(finding: Finding) -> str:
    """One line that a GitHub workflow shows at the line of the file.

    Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    """
    where = finding.where
    properties = {"file": where.file, "title": finding.rule}
    if where.line:
        properties |= {"line": str(where.line), "col": str(where.column)}
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{finding.severity} {listed}::{_data(f'{finding.message}. {finding.fix}')}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

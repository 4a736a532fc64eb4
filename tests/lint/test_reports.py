"""Findings as SARIF and as GitHub annotations."""

from __future__ import annotations

from pathlib import Path

from attune_mq import parse_topology
from attune_mq.lint import RULES, Finding, lint
from attune_mq.lint.reports import github_annotation, sarif
from attune_mq.topology import Where

FAILS = Path(__file__).parent / "fixtures" / "message-unroutable" / "fails.yaml"


def findings() -> tuple[Finding, ...]:
    return lint(parse_topology(FAILS.read_text(), file="deploy/topology file.yaml"))


def test_a_sarif_log_names_the_rule_the_level_and_the_place() -> None:
    [finding] = findings()
    log = sarif([finding], RULES, tool_version="1.2.3")
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    [result] = run["results"]
    assert result["ruleId"] == "message-unroutable"
    assert result["level"] == "error"
    assert finding.message in result["message"]["text"]
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "deploy/topology%20file.yaml"},
                "region": {"startLine": finding.where.line, "startColumn": finding.where.column},
            }
        }
    ]


def test_a_sarif_log_describes_every_rule_whether_it_found_something_or_not() -> None:
    [run] = sarif(findings(), RULES, tool_version="1.2.3")["runs"]
    described = run["tool"]["driver"]["rules"]
    assert [each["id"] for each in described] == [rule.id for rule in RULES]
    for result in run["results"]:
        assert described[result["ruleIndex"]]["id"] == result["ruleId"]


def test_a_sarif_log_without_findings_has_an_empty_list_of_results() -> None:
    [run] = sarif([], RULES, tool_version="1.2.3")["runs"]
    assert run["results"] == []


def test_what_has_no_line_has_no_region() -> None:
    finding = Finding("binding-twice", "warning", Where("<topology>", 0, 0, ""), "twice", "Once.")
    [run] = sarif([finding], RULES, tool_version="1.2.3")["runs"]
    [location] = run["results"][0]["locations"]
    assert "region" not in location["physicalLocation"]
    assert "line=" not in github_annotation(finding)


def test_a_file_with_an_absolute_path_is_a_file_uri() -> None:
    finding = Finding("binding-twice", "warning", Where("/srv/t.yaml", 3, 1, ""), "twice", "Once.")
    [run] = sarif([finding], RULES, tool_version="1.2.3")["runs"]
    artifact = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": "file:///srv/t.yaml"}


def test_an_annotation_is_one_line_in_which_nothing_ends_it_early() -> None:
    where = Where("a,b:c.yaml", 3, 5, "queues.x")
    finding = Finding("binding-twice", "warning", where, "100 %\nof it: a, b", "Mend it.")
    assert github_annotation(finding) == (
        "::warning file=a%2Cb%3Ac.yaml,title=binding-twice,line=3,col=5"
        "::100 %25%0Aof it: a, b. Mend it."
    )

"""``attune-mq lint``: text for people, JSON for scripts, SARIF and annotations for CI."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from attune_mq.cli.main import main
from attune_mq.lint import RULES

CLEAN = """version: 1
queues:
  executions: {name: attune.executions.queue}
consumers:
  executor.enforcement: {service: executor, queue: executions, prefetch: 10}
"""
FAULTY = CLEAN.replace("prefetch: 10", "prefetch: 0")
SECRET = "Xq7-not-a-real-one"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def lint(text: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        Path("topology.yaml").write_text(text)
        code = main(["lint", *arguments])
        return code, capsys.readouterr().out

    return lint


def test_a_clean_file_exits_with_0_and_says_so(run: Any) -> None:
    assert run(CLEAN) == (0, "no findings\n")
    code, out = run(CLEAN, "--format", "json")
    assert (code, json.loads(out)["findings"]) == (0, [])


def test_a_note_is_no_finding_and_is_told_beside_them(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "note: no deadline is given to the handlers of executor.enforcement"
    code, as_json = run(CLEAN, "--format", "json")
    assert main(["lint"]) == 0
    to_people = capsys.readouterr()
    [note] = json.loads(as_json)["notes"]
    excuse = "  # lint: allow consumer-without-deadline -- they may take days\n"
    excused = CLEAN.replace("consumers:\n", f"consumers:\n{excuse}")

    assert to_people.out == "no findings\n"
    assert told in to_people.err
    assert (code, note["rule"], note["severity"]) == (0, "consumer-without-deadline", "note")
    assert json.loads(run(excused, "--format", "json")[1]) == {"findings": [], "notes": []}


def test_a_finding_exits_with_1_and_names_line_rule_and_fix(run: Any) -> None:
    code, out = run(FAULTY)
    assert code == 1
    first = out.splitlines()[0]
    assert first == "topology.yaml:5:64: warning: prefetch-without-bound"
    assert "takes all of attune.executions.queue at once" in out
    assert "fix: Give the consumer a `prefetch`" in out
    assert out.endswith("1 warning\n")


def test_the_json_of_a_finding_is_what_scripts_rely_on(run: Any) -> None:
    code, out = run(FAULTY, "--format", "json")
    [finding] = json.loads(out)["findings"]
    assert code == 1
    assert finding.keys() == {"rule", "severity", "where", "message", "fix"}
    assert finding["where"] == {
        "file": "topology.yaml",
        "line": 5,
        "column": 64,
        "path": 'consumers."executor.enforcement".prefetch',
    }


def test_a_wrong_file_exits_with_2(run: Any) -> None:
    assert run("version: 2\n")[0] == 2


def test_sarif_is_one_document_on_standard_output(run: Any) -> None:
    code, out = run(FAULTY, "--to", "sarif")
    log = json.loads(out)
    assert code == 1
    [result] = log["runs"][0]["results"]
    assert result["ruleId"] == "prefetch-without-bound"


def test_annotations_for_github_are_a_line_each(run: Any) -> None:
    code, out = run(FAULTY, "--to", "github")
    assert code == 1
    [line] = out.splitlines()
    assert line.startswith("::warning file=topology.yaml,title=prefetch-without-bound,line=5,")


def test_a_file_named_by_its_absolute_path_is_shown_from_the_working_directory(
    run: Any, tmp_path: Path
) -> None:
    _, out = run(FAULTY, "--topology", str(tmp_path / "topology.yaml"), "--to", "github")
    assert out.startswith("::warning file=topology.yaml,")


def test_the_rules_are_listed_each_with_its_story(run: Any) -> None:
    code, out = run(FAULTY, "--rules", "--format", "json")
    assert code == 0
    assert json.loads(out) == {
        "rules": [
            {"rule": r.id, "severity": r.severity, "summary": r.summary, "why": r.rationale}
            for r in RULES
        ]
    }
    code, out = run(FAULTY, "--rules")
    assert code == 0
    assert all(f"{rule.id} ({rule.severity})" in out for rule in RULES)


def test_the_rules_are_listed_where_there_is_no_topology_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--topology", str(tmp_path / "none.yaml"), "lint", "--rules"]) == 0
    assert "message-unroutable" in capsys.readouterr().out


def test_there_is_colour_on_a_terminal_and_nowhere_else(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\033[" not in run(FAULTY)[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[" in run(FAULTY)[1]
    assert "\033[" not in run(FAULTY, "--format", "json")[1]


def test_a_password_that_is_found_is_not_shown(run: Any) -> None:
    commented = FAULTY.replace(
        "prefetch: 0}", f"prefetch: 0}}  # amqp://attune:{SECRET}@rabbit.example.org"
    )
    for form in ([], ["--format", "json"], ["--to", "sarif"], ["--to", "github"]):
        code, out = run(commented, *form)
        assert code == 1
        assert "password-in-file" in out
        assert SECRET not in out

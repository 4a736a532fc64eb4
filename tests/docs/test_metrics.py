"""The page about metrics against the metrics, the alert rules and Prometheus itself."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
import yaml

from attune_mq import Service
from attune_mq.message.labels import DEFAULT, OTHER, UNREAD
from attune_mq.metrics import METRICS
from attune_mq.metrics.events import REASONS
from attune_mq.metrics.sources import CAUSES
from tests.docs.markdown import code_names, page
from tests.metrics.rules import known_names, metric_names, needs_promtool, promtool

PAGE = page("metrics.md")
ROWS = PAGE.rows_under("All of them")
QUESTIONS = [
    code_names(row["PromQL"])[0] for row in PAGE.rows_under("Questions and their expressions")
]


def test_the_table_is_the_code_s() -> None:
    documented = [
        (
            code_names(row["metric"])[0],
            row["type"],
            tuple(code_names(row["labels"])),
            row["what it says"],
        )
        for row in ROWS
    ]
    assert documented == [tuple(metric) for metric in METRICS]


def test_each_label_is_explained() -> None:
    explained = {code_names(row["label"])[0] for row in PAGE.rows_under("Labels")}
    assert explained == {label for metric in METRICS for label in metric.labels}


def test_the_values_that_labels_can_have_are_named() -> None:
    said = {row["label"]: row["meaning"] for row in PAGE.rows_under("Labels")}
    assert {OTHER, UNREAD} <= set(code_names(said["`type`"]))
    assert DEFAULT in code_names(said["`exchange`"])
    assert list(REASONS) == code_names(said["`reason`"])
    assert list(CAUSES) == code_names(said["`cause`"])


def test_the_expressions_name_metrics_that_are_there() -> None:
    assert {name for one in QUESTIONS for name in metric_names(one)} <= known_names()


@needs_promtool
def test_prometheus_can_read_the_expressions(tmp_path: Path) -> None:
    rules = [{"record": f"q:{i}", "expr": one} for i, one in enumerate(QUESTIONS)]
    file = tmp_path / "questions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "questions", "rules": rules}]}))

    assert f"{len(QUESTIONS)} rules found" in promtool("check", "rules", str(file))


def test_the_example_makes_a_service_that_tells_its_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (example,) = (block.text for block in PAGE.blocks if block.language == "python")
    answers: list[str] = []

    def run(_service: Service) -> None:
        with urllib.request.urlopen("http://127.0.0.1:8090/metrics") as answer:
            answers.append(answer.read().decode())

    monkeypatch.setattr(Service, "run", run)
    exec(compile(example, PAGE.name, "exec"), {})

    assert "attune_mq_confirms_waiting 0.0" in answers[0]

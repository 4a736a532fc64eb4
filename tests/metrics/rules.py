"""The rules and the dashboard that ship, and Prometheus's own tool to judge them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attune_mq.metrics import METRICS

REPOSITORY = Path(__file__).parents[2]
ALERTS_FILE = REPOSITORY / "deploy/prometheus/alerts.yml"
DASHBOARD_FILE = REPOSITORY / "deploy/grafana/attune.json"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load(ALERTS_FILE.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads(DASHBOARD_FILE.read_text(encoding="utf-8"))
OTHERS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
"""Metrics of Prometheus itself, and of prometheus_client."""


def _program(name: str) -> str | None:
    fetched = REPOSITORY / ".cache/prometheus/usr/bin" / name
    return shutil.which(name) or (str(fetched) if fetched.exists() else None)


PROMTOOL, PROMETHEUS = _program("promtool"), _program("prometheus")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is missing; `sh scripts/setup-promtool.sh` fetches it"
)
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is missing; `sh scripts/setup-promtool.sh` fetches it"
)


def promtool(*arguments: str, stdin: bytes = b"") -> str:
    """What it says; fails where it finds something."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], input=stdin, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression of PromQL names; labels and functions aside."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"", "", expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b", bare)
    return {word for word in words if word.startswith("attune_") or word in OTHERS or "_" in word}


def known_names() -> set[str]:
    names = set(OTHERS)
    for metric in METRICS:
        names.add(metric.name)
        if metric.kind == "histogram":
            names |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    return names


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """The title of a panel with each of its expressions."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]

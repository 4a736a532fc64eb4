"""Latency from publishing to the handler, at 1,000 messages a second."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import broker
from benchmarks.results import Ratio, Section
from benchmarks.running import Run

SECONDS = 5
KINDS = ("pika", "attune")


def measure(run: Run) -> list[Section]:
    section = Section("latency", "Publish to handler, 1,000 messages a second", "ms")
    for percentile in ("median", "p99"):
        names = [f"{kind}, {percentile}" for kind in KINDS]
        section.ratios.append(Ratio(names[1], names[0], at_most=1.2))
    for _ in range(run.repeats):
        for kind in KINDS:
            for percentile, ms in _took(run, kind).items():
                section.add(f"{kind}, {percentile}", ms)
    return [section]


def _took(run: Run, kind: str) -> dict[str, float]:
    url = run.node.url
    broker.make_queue(url)
    module = [sys.executable, "-m", "benchmarks.clients.latency"]
    rest = [kind, url, broker.QUEUE, str(run.amount(SECONDS * 1_000))]
    with subprocess.Popen([*module, "consume", *rest], stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        ours.stdout.readline()  # it consumes
        try:
            subprocess.run([*module, "publish", *rest], check=True, timeout=120)
            found: dict[str, float] = json.loads(ours.communicate(timeout=60)[0])
        finally:
            ours.kill()
    return found

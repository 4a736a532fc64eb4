"""Ten times and a hundred times as much: does the work for each stay the same?

Processor time of this process for what needs no broker; for a backlog, that of the consumer's
process for each message, of the same number of messages on top of ever more that wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attune_mq import Router, Topology, expand, lint
from attune_mq.topology.loading import parse_topology
from benchmarks import broker
from benchmarks.clients.measuring import Task
from benchmarks.clients.running import run_client
from benchmarks.results import Ratio, Section
from benchmarks.running import Run
from benchmarks.scale import text

QUEUES, MESSAGES = 100, 2_000
STEPS = (1, 10, 100)
SLACK = 1.5
"""What a hundred times as much may cost for each: memory is slower than caches."""


def measure(run: Run) -> list[Section]:
    return [_topologies(run), _backlog(run)]


def _topologies(run: Run) -> Section:
    section = Section("growth", "Work for each queue of a file", "µs")
    for step in STEPS:
        queues = run.amount(QUEUES) * step
        source = text(queues)
        topology = parse_topology(source)
        for name, work in _works(source, topology, queues).items():
            section.add(f"{name}, x {step}", _cpu_seconds(work) / queues * 1e6)
    for name in ("load", "expand", "lint", "route"):
        section.ratios.append(Ratio(f"{name}, x 100", f"{name}, x 1", at_most=SLACK))
    return section


def _works(source: str, topology: Topology, queues: int) -> dict[str, Callable[[], object]]:
    return {
        "load": lambda: parse_topology(source),
        "expand": lambda: expand(topology),
        "lint": lambda: lint(topology),
        "route": lambda: _route(topology, queues),
    }


def _route(topology: Topology, count: int) -> None:
    router = Router(topology)
    for number in range(count):
        router.route("scale.x", f"key.{number}")


def _cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _backlog(run: Run) -> Section:
    section = Section("backlog", "A consumer's work for each message, by what waits", "µs")
    messages = run.amount(MESSAGES)
    for _ in range(run.repeats):
        for step in STEPS[:2] if run.scale < 1 else STEPS:
            broker.make_queue(run.node.url)
            broker.fill(run.node.url, messages * step)
            timing = run_client("attune", Task(run.node.url, broker.QUEUE, messages, 100))
            section.add(f"attune, x {step}", timing.cpu_seconds / messages * 1e6)
    section.ratios.append(Ratio("attune, x 100", "attune, x 1", at_most=SLACK))
    return section

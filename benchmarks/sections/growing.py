"""Ten times and a hundred times as much: does the work for each stay the same?

Processor time of this process for what needs no broker; for a backlog and for many consumers, that
of the consumers' process for each message: of the same number of messages on top of ever more that
wait, and shared out among ever more consumers.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from attune_mq import Topology, expand, parse_topology, setup_infrastructure
from attune_mq.lint import lint
from attune_mq.topology import Router
from benchmarks import broker
from benchmarks.clients.attune import CONSUMERS, topology as topology_of_consumers
from benchmarks.clients.measuring import Task
from benchmarks.clients.running import run_client
from benchmarks.results import Ratio, Section
from benchmarks.running import Run
from benchmarks.scale import text

QUEUES, MESSAGES, MESSAGES_OF_ALL = 100, 2_000, 10_000
STEPS = (1, 10, 100)
PREFETCH_OF_MANY = 10
"""Little of what waits is in hand before the clock begins."""
SLACK = 1.5
"""What a hundred times as much may cost for each: memory is slower than caches."""


def measure(run: Run) -> list[Section]:
    return [_topologies(run), _backlog(run), _consumers(run)]


def _topologies(run: Run) -> Section:
    section = Section("growth", "Work for each queue of a file", "µs")
    for _ in range(run.repeats):
        for step in STEPS:
            queues = run.amount(QUEUES) * step
            source = text(queues)
            topology = parse_topology(source)
            for name, work in _works(source, topology, queues).items():
                section.add(f"{name}, x {step}", _cpu_seconds(work) / queues * 1e6)
    for name in ("load", "expand", "lint", "index", "route"):
        section.ratios.append(Ratio(f"{name}, x 100", f"{name}, x 1", at_most=SLACK))
    return section


def _works(source: str, topology: Topology, queues: int) -> dict[str, Callable[[], object]]:
    router = Router(topology)
    return {
        "load": lambda: parse_topology(source),
        "expand": lambda: expand(topology),
        "lint": lambda: lint(topology),
        "index": lambda: Router(topology),
        "route": lambda: _route(router, queues),
    }


def _route(router: Router, count: int) -> None:
    for number in range(count):
        router.route("scale.x", f"key.{number}")


def _cpu_seconds(work: Callable[[], object]) -> float:
    """With the garbage collector on, but for what others left: to look through that again and
    again is none of this work."""
    gc.collect()
    gc.freeze()
    began = time.process_time()
    work()
    took = time.process_time() - began
    gc.unfreeze()
    return took


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


def _consumers(run: Run) -> Section:
    section = Section("consumers", "Many consumers in one process: work for each message", "µs")
    for _ in range(run.repeats):
        for count in CONSUMERS:
            each = max(1, run.amount(MESSAGES_OF_ALL) // count)
            with run.node.fresh_vhost() as url:
                task = Task(url, broker.QUEUE, each, PREFETCH_OF_MANY)
                setup_infrastructure(topology_of_consumers(task, count), url)
                broker.fill(url, each)
                timing = run_client(f"attune x {count}", task)
            section.add(f"consumers, x {count}", timing.cpu_seconds / (each * count) * 1e6)
    most = CONSUMERS[-1]
    section.ratios.append(Ratio(f"consumers, x {most}", "consumers, x 1", at_most=SLACK))
    return section

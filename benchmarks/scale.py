"""How many seconds a large file takes: to load, to lint, to expand, and to plan for a broker.

    python benchmarks/scale.py            # 1,000 and 10,000 queues, without a broker
    python benchmarks/scale.py --broker   # and against a private node, which is filled first

Processor time, but for what waits for the broker, which is told in seconds of the clock.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from attune_mq import Topology, expand, parse_topology, plan, setup_infrastructure
from attune_mq.broker import EmbeddedBroker
from attune_mq.lint import lint

SIZES = (1_000, 10_000)
T = TypeVar("T")


def text(queues: int) -> str:
    """A file of ``queues`` main queues, each with a binding, a message type and a consumer."""
    lines = [
        "version: 1",
        "exchanges: {x: {name: scale.x, type: topic}}",
        "queues:",
        *(f"  q{i}: {{name: scale.q{i}}}" for i in range(queues)),
        "bindings:",
        *(f"  - {{source: x, destination: q{i}, routing_key: key.{i}}}" for i in range(queues)),
        "messages:",
        *(f"  Type{i}: {{exchange: x, routing_key: key.{i}}}" for i in range(queues)),
        "consumers:",
        *(f"  c{i}: {{service: s, queue: q{i}, handles: [Type{i}]}}" for i in range(queues)),
    ]
    return "\n".join(lines) + "\n"


def timed(what: str, work: Callable[[], T], clock: Callable[[], float] = time.process_time) -> T:
    began = clock()
    result = work()
    sys.stdout.write(f"  {what:<32} {clock() - began:6.2f} s\n")
    return result


def without_broker(queues: int) -> Topology:
    sys.stdout.write(f"{queues:,} queues\n")
    topology = timed("load", lambda: parse_topology(text(queues)))
    timed("expand", lambda: expand(topology))
    timed("lint", lambda: lint(topology))
    return topology


def with_broker(topology: Topology, node: EmbeddedBroker) -> None:
    clock = time.monotonic
    url, api = node.url, node.management_url
    timed("setup, all of it new", lambda: setup_infrastructure(topology, url), clock)
    timed("setup, nothing to do", lambda: setup_infrastructure(topology, url), clock)
    timed("plan over the HTTP API", lambda: plan(topology, url, management_url=api), clock)
    timed("plan over AMQP", lambda: plan(topology, url), clock)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times a large file.")
    parser.add_argument("--broker", action="store_true", help="also against a private node")
    asked = parser.parse_args()
    for queues in SIZES:
        topology = without_broker(queues)
        if asked.broker:
            with EmbeddedBroker(management=True) as node:
                with_broker(topology, node)


if __name__ == "__main__":
    main()

"""How many messages the simulated broker routes in a second of processor time, on 1,000 bindings.

    python benchmarks/routing.py

Nothing is remembered from one question to the next.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from attune_mq import Topology
from attune_mq.topology import Binding, Exchange, Queue, Router

BINDINGS = 1_000
ROUTINGS = 50_000
WORDS = ("created", "changed", "*", "#")

Question = tuple[str, Mapping[str, Any]]


def topology(exchange_type: str, binding: Callable[[int], Binding]) -> Topology:
    queues = {f"q{i}": Queue(name=f"q{i}", dead_letter=False) for i in range(BINDINGS)}
    exchanges = {"x": Exchange(name="x", type=exchange_type)}
    bindings = tuple(binding(i) for i in range(BINDINGS))
    return Topology(version=1, exchanges=exchanges, queues=queues, bindings=bindings)


def direct(i: int) -> Binding:
    return Binding(source="x", destination=f"q{i}", routing_key=f"worker.{i}")


def topic(i: int) -> Binding:
    pattern = f"service.{i % 100}.entity.{i // 100}.{WORDS[i % 4]}"
    return Binding(source="x", destination=f"q{i}", routing_key=pattern)


def headers(i: int) -> Binding:
    return Binding(source="x", destination=f"q{i}", arguments={"tenant": i, "format": "pdf"})


def measure(
    exchange_type: str, binding: Callable[[int], Binding], questions: list[Question]
) -> None:
    router = Router(topology(exchange_type, binding))
    routed = 0
    start = time.process_time()
    for key, given in questions:
        routed += not router.route("x", key, given).unroutable
    seconds = time.process_time() - start
    rate = len(questions) / seconds
    sys.stdout.write(
        f"{exchange_type:8} {rate:9,.0f} routings/s, {routed:,} of {len(questions):,} routed\n"
    )


def main() -> None:
    measure("direct", direct, [(f"worker.{i % 2_000}", {}) for i in range(ROUTINGS)])
    keys = [f"service.{i % 100}.entity.{i // 100 % 10}.created" for i in range(ROUTINGS)]
    measure("topic", topic, [(key, {}) for key in keys])
    tenants = [{"tenant": i % 2_000, "format": "pdf", "size": i} for i in range(ROUTINGS)]
    measure("headers", headers, [("", given) for given in tenants])


if __name__ == "__main__":
    main()

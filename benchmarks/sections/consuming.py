"""Consuming: decoded, validated by pydantic, acknowledged; and C, where nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import broker
from benchmarks.clients.measuring import Task, Timing
from benchmarks.clients.running import build_c, run_c, run_client
from benchmarks.results import Ratio, Section, interleave
from benchmarks.running import Run

PREFETCH = 100
AMOUNTS = {
    "faststream": 6_000,
    "aio-pika": 8_000,
    "amqpstorm": 10_000,
    "kombu": 10_000,
    "pika": 15_000,
    "pika-ack-32": 20_000,
    "attune": 25_000,
    "attune, unobserved": 25_000,
}
AMOUNT_IN_C = 40_000
RATIOS = [
    Ratio("attune", "pika", at_least=1.7),
    Ratio("attune", "faststream", at_least=4.0),
    Ratio("attune", "librabbitmq in C, ack 32", at_least=0.5),
]


def measure(run: Run) -> list[Section]:
    measured: dict[str, Callable[[], float]] = {
        name: partial(_drain, run, run.amount(amount), partial(run_client, name))
        for name, amount in AMOUNTS.items()
    }
    program = build_c(run.folder)
    section = Section("consuming", "Consuming, prefetch 100", "messages/s", ratios=RATIOS)
    if program is None:
        section.notes.append("librabbitmq in C was not measured: no C compiler, or no library")
    else:
        for every, name in ((1, "librabbitmq in C"), (32, "librabbitmq in C, ack 32")):
            in_c = partial(run_c, program, ack_every=every)
            measured[name] = partial(_drain, run, run.amount(AMOUNT_IN_C), in_c)
    return [interleave(section, run.repeats, measured), _one_at_a_time(run)]


def _one_at_a_time(run: Run) -> Section:
    amount = run.amount(4_000)
    measured = {
        name: partial(_drain, run, amount, partial(run_client, name), prefetch=1)
        for name in ("pika", "attune")
    }
    ratios = [Ratio("attune", "pika", at_least=1.0)]
    section = Section("prefetch-1", "Consuming, prefetch 1", "messages/s", ratios=ratios)
    return interleave(section, run.repeats, measured)


def _drain(
    run: Run, amount: int, client: Callable[[Task], Timing], *, prefetch: int = PREFETCH
) -> float:
    url = run.node.url
    broker.make_queue(url)
    broker.fill(url, amount)
    timing = client(Task(url, broker.QUEUE, amount, prefetch))
    broker.wait_for_depth(url, 0)  # every acknowledgement has arrived
    return timing.per_second

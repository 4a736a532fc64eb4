"""Publishing: persistent, confirmed, mandatory, but for pika without confirms."""

from __future__ import annotations

from functools import partial

from benchmarks import broker
from benchmarks.clients.measuring import Task
from benchmarks.clients.running import run_client
from benchmarks.results import Ratio, Section, interleave
from benchmarks.running import Run

AMOUNTS = {
    "amqpstorm-confirm": 200,
    "kombu-confirm": 1_500,
    "pika-confirm": 2_000,
    "attune-one-by-one": 2_000,
    "attune-8-threads": 8_000,
    "aio-pika-500": 8_000,
    "pika-select-500": 15_000,
    "pika-unconfirmed": 20_000,
    "attune-many": 20_000,
}
RATIOS = [
    Ratio("attune-many", "pika-unconfirmed", at_least=0.9),
    Ratio("attune-many", "aio-pika-500", at_least=3.0),
    Ratio("attune-8-threads", "pika-confirm", at_least=5.0),
    Ratio("attune-one-by-one", "pika-confirm", at_least=1.0),
]


def measure(run: Run) -> list[Section]:
    measured = {
        name: partial(_publish, run, name, run.amount(amount)) for name, amount in AMOUNTS.items()
    }
    section = Section("publishing", "Publishing", "messages/s", ratios=RATIOS)
    return [interleave(section, run.repeats, measured)]


def _publish(run: Run, name: str, amount: int) -> float:
    broker.make_queue(run.node.url)
    return run_client(name, Task(run.node.url, broker.QUEUE, amount, 0)).per_second

"""On which threads a user's code runs: the contract of telemetry, handlers and publishers."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import pytest

from attune_mq import Consumer, Handlers, Message, Publisher, Telemetry, Topology
from attune_mq.payloads import ExecutionRequested
from tests.messaging.bench import Bench, request, running
from tests.waiting import wait_until

TAG = "worker"
MESSAGES = 40


class Threads(Telemetry):
    """The names of the threads of each event."""

    def __init__(self) -> None:
        self.of: dict[str, set[str]] = defaultdict(set)

    def note(self, event: str) -> None:
        self.of[event].add(threading.current_thread().name)

    def connection_opened(self, name: str) -> None:
        self.note(f"opened {name}")

    def delivered(self, delivery: Any) -> None:
        self.note("delivered")

    def handling(self, delivery: Any, envelope: Any) -> None:
        self.note("handling")

    def handled(self, delivery: Any, envelope: Any, outcome: Any, seconds: float) -> None:
        self.note("handled")

    def settled(self, delivery: Any, envelope: Any, how: Any) -> None:
        self.note("settled")

    def publishing(self, message: Any) -> Any:
        self.note("publishing")
        return message

    def published(self, message: Any, outcome: Any, seconds: float) -> None:
        self.note("published")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_each_event_comes_on_the_thread_that_the_contract_names(
    bench: Bench, topology: Topology, concurrency: int
) -> None:
    threads, own = Threads(), threading.current_thread().name
    workers = {f"{TAG}#{number}" for number in range(1, concurrency + 1)}
    handlers = Handlers()

    @handlers.on(ExecutionRequested)
    def handle(_: Message[ExecutionRequested]) -> None:
        threads.note("the handler")

    with Publisher(topology, bench.url, telemetry=threads) as publisher:
        consumer = Consumer(
            topology, TAG, handlers, bench.url, telemetry=threads, concurrency=concurrency
        )
        with running(consumer):
            wait_until(lambda: consumer.status.state == "consuming", "it consumes")
            for number in range(MESSAGES):
                publisher.publish(request(number))
            wait_until(lambda: consumer.status.handled == MESSAGES, "all are handled")

    assert threads.of["publishing"] == threads.of["published"] == {own}
    assert threads.of["opened attune_mq publisher"] == {"attune_mq publisher"}
    assert threads.of[f"opened {TAG}"] == {TAG}
    for event in ("handling", "the handler", "handled", "settled"):
        assert threads.of[event] <= workers
    leaders = {TAG} | (workers if concurrency == 1 else set())
    assert threads.of["delivered"] <= leaders

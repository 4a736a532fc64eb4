"""Numbered messages, published as fast as they are confirmed, and a consumer that writes down what
it was given. Both go on while something else happens to the queue between them."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from attune_mq.consuming.consumer import Consumer
from attune_mq.consuming.handlers import Handlers
from attune_mq.message.delivery import Message
from attune_mq.message.envelope import Envelope
from attune_mq.message.outgoing import Receipt
from attune_mq.payloads import ExecutionRequested
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.loading import parse_topology
from tests.messaging.bench import request
from tests.waiting import wait_until

FILE = """
version: 1
dead_letter: {exchange: dlx, ttl: 1h}
exchanges:
  work: {name: work, type: direct}
  all: {name: all, type: topic}
  dlx: {name: dlx, type: fanout}
  other-dlx: {name: other-dlx, type: fanout}
queues:
  work: {name: work.queue}
bindings:
  - {source: work, destination: work, routing_key: requested}
  - {source: all, destination: work, destination_type: queue, routing_key: "#"}
  - {source: work, destination: all, destination_type: exchange, routing_key: requested}
messages:
  ExecutionRequested: {exchange: work, routing_key: requested, publishers: [api]}
consumers:
  worker: {service: tests, queue: work, prefetch: 10}
"""


def file_of(**queue: str) -> str:
    """The file, with further keys of the queue, as YAML has them."""
    further = "".join(f", {key}: {value}" for key, value in queue.items())
    return FILE.replace("{name: work.queue}", f"{{name: work.queue{further}}}")


class Result(NamedTuple):
    """``refused``: what the publisher was told that it may not be in a queue. ``overtaken``:
    messages that were handled after one that was published later."""

    published: int
    refused: set[int]
    lost: set[int]
    doubled: dict[int, int]
    overtaken: int

    def figures(self) -> dict[str, int]:
        return {
            "messages": self.published,
            "refused": len(self.refused),
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "overtaken": self.overtaken,
        }


class Traffic:
    """A context manager. ``topology`` is the file that the consumer has; it changes nothing.
    ``in_flight``: so many are published at once, and the next when all of them are confirmed."""

    def __init__(
        self, url: str, topology: str, *, consumes: bool = True, in_flight: int = 20
    ) -> None:
        self._topology = parse_topology(topology, file="topology.yaml", environment={})
        self._url = url
        self._confirmed: set[int] = set()
        self._refused: set[int] = set()
        self.handled: list[int] = []
        self._stopping = threading.Event()
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._thread = threading.Thread(target=self._publish)
        self._consumes = consumes
        self._in_flight = in_flight

    def __enter__(self) -> Self:
        handlers = Handlers()
        handlers.on(ExecutionRequested)(self._handle)
        self._consumer = Consumer(self._topology, "worker", handlers, self._url)
        if self._consumes:
            self._consumer.start()
        self._thread.start()
        self.wait_for(100)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self.release()
        self._thread.join(30)
        if self._consumes:
            self._consumer.stop(5)
            assert self._consumer.join(30)

    def wait_for(self, more: int) -> None:
        """Until so many more were published, and handled."""
        goal = len(self._confirmed) + more
        wait_until(lambda: len(self._confirmed) >= goal, f"{more} more are published")
        if self._consumes:
            goal = len(self.handled) + more
            wait_until(lambda: len(self.handled) >= goal, f"{more} more are handled")

    def hold(self, backlog: int) -> None:
        """From now on nothing is handled; until so many wait."""
        self._goes_on.clear()
        goal = len(self.handled) + backlog
        wait_until(lambda: len(self._confirmed) >= goal, f"{backlog} wait")

    def release(self) -> None:
        self._goes_on.set()

    @property
    def doubled(self) -> dict[int, int]:
        counts = Counter(self.handled)
        return {number: count for number, count in counts.items() if count > 1}

    def result(self) -> Result:
        """After the last message has been through."""
        self._stopping.set()
        self.release()
        self._thread.join(30)
        with suppress(AssertionError):  # what is lost never comes
            while self._confirmed - set(self.handled):
                self._wait_for_one_more(len(self.handled))
        highest = itertools.accumulate(self.handled, max)
        overtaken = sum(number < top for number, top in zip(self.handled, highest, strict=True))
        lost = self._confirmed - set(self.handled)
        return Result(len(self._confirmed), self._refused, lost, self.doubled, overtaken)

    def _wait_for_one_more(self, count: int) -> None:
        wait_until(lambda: len(self.handled) > count, "one more is handled")

    def _handle(self, message: Message[Any]) -> None:
        self._goes_on.wait()
        self.handled.append(message.payload.execution_id)

    def _publish(self) -> None:
        numbers = itertools.count()
        with Publisher(self._topology, self._url) as publisher:
            while not self._stopping.is_set():
                some = list(itertools.islice(numbers, self._in_flight))
                outgoing = [publisher.outgoing(Envelope.of(request(one))) for one in some]
                for number, outcome in zip(some, publisher.send(outgoing), strict=True):
                    kept = self._confirmed if isinstance(outcome, Receipt) else self._refused
                    kept.add(number)

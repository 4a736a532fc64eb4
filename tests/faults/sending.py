"""Sends numbered messages to two queues, and says what was told of each: an odd number goes to the
queue that is full most of the time and refuses, an even one to the other."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from attune_mq import (
    NotConfirmed,
    Publisher,
    PublishError,
    PublishManyFailed,
    Route,
    Topology,
    parse_topology,
)
from attune_mq.payloads import ExecutionRequested
from tests.faults.journal import Journal
from tests.faults.receipts import Said

OPEN, FULL = "open", "full"
"""The queues, and the keys that lead there."""
EXCHANGE = "soak"
FILE = f"""
version: 1
exchanges:
  {EXCHANGE}: {{name: {EXCHANGE}, type: direct}}
queues:
  {OPEN}: {{name: {OPEN}, dead_letter: false}}
  {FULL}: {{name: {FULL}, dead_letter: false, max_length: 10, overflow: reject-publish}}
bindings:
  - {{source: {EXCHANGE}, destination: {OPEN}, routing_key: {OPEN}}}
  - {{source: {EXCHANGE}, destination: {FULL}, routing_key: {FULL}}}
messages:
  ExecutionRequested: {{exchange: {EXCHANGE}, routing_key: {OPEN}, publishers: [tests]}}
"""


def topology() -> Topology:
    return parse_topology(FILE, file="topology.yaml", environment={})


def queue_of(number: int) -> str:
    return FULL if number % 2 else OPEN


def message_of(number: int, size_bytes: int = 0) -> ExecutionRequested:
    config = {"padding": "x" * size_bytes}
    return ExecutionRequested(execution_id=number, action_ref="core.echo", config=config)


class Sender:
    """For many threads, and for the children of their process. ``numbers``: half of the next ones.
    ``interruptions``: what the program itself has raised inside of publish. ``is_excused``: whether
    an error may be, after which nothing was sent."""

    def __init__(self, url: str, journal: Journal) -> None:
        self.url = url
        self.interruptions: tuple[type[BaseException], ...] = ()
        self.is_excused: Callable[[Exception], bool] = lambda _error: False
        self.numbers: Iterator[int] = itertools.count(1)
        self.publisher: Publisher | None = None
        self._journal = journal

    def some(self, count: int, rng: random.Random) -> list[int]:
        """New numbers, all of one queue."""
        odd = rng.randrange(2)
        return [next(self.numbers) * 2 + odd for _ in range(count)]

    def publish(self, numbers: Sequence[int], *, size_bytes: int = 0) -> dict[int, Said]:
        """All of one queue: one alone by ``publish``, more by ``publish_many``. What it must not
        raise is written down; whoever interrupts it gets his own exception."""
        route = Route(EXCHANGE, queue_of(numbers[0]))
        messages = [message_of(number, size_bytes) for number in numbers]
        assert self.publisher is not None
        try:
            if len(messages) == 1:
                self.publisher.publish(messages[0], route=route)
            else:
                self.publisher.publish_many(messages, route=route)
        except PublishManyFailed as error:
            return _said_of_many(numbers, error.failures)
        except PublishError as error:
            return dict.fromkeys(numbers, _said_of(error))
        except Exception as error:
            if isinstance(error, self.interruptions):
                raise
            return dict.fromkeys(numbers, self._said_instead(error))
        return dict.fromkeys(numbers, Said.RECEIPT)

    def write_down(self, said: Mapping[int, Said]) -> None:
        for number, one in said.items():
            self._journal.said(number, one)

    def _said_instead(self, error: Exception) -> Said:
        """Of an error that is none of publishing: nothing was sent, and the program knows why."""
        if "fork" in str(error) or self.is_excused(error):
            return Said.REFUSED
        self._journal.problem(f"publish raised {error!r}")
        return Said.UNKNOWN


def _said_of(error: PublishError) -> Said:
    if isinstance(error, NotConfirmed) and error.sent:
        return Said.UNKNOWN
    return Said.REFUSED


def _said_of_many(numbers: Sequence[int], failures: Mapping[int, PublishError]) -> dict[int, Said]:
    return {
        number: _said_of(failures[index]) if index in failures else Said.RECEIPT
        for index, number in enumerate(numbers)
    }

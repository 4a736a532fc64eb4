"""Interrupting a call at each line that it executes, as a signal's handler that raises would."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pika

import attune_mq
from attune_mq import Envelope, Publisher, Receipt, Route
from attune_mq.errors import PublishRefused
from attune_mq.message import Outgoing
from attune_mq.message.outgoing import Outcome
from tests.messaging.bench import WORK, Bench, request, topology_of

LIBRARY = str(Path(attune_mq.__file__).parent)
PIKA = str(Path(pika.__file__).parent)
FULL, OPEN = "full", "open"


class Interrupted(BaseException):
    """As ``KeyboardInterrupt``, or the error of a time limit."""


class TimeLimit(TimeoutError):
    """As the usual time limits raise it, which is an ``Exception``, and an ``OSError``."""


class At:
    """Raises at line event number ``place`` of what is called within it, counted over all lines of
    the library, or of what lies ``within`` other folders; ``None`` raises nowhere. On the calling
    thread alone."""

    def __init__(
        self,
        place: int | None,
        *,
        within: tuple[str, ...] = (LIBRARY,),
        kind: type[BaseException] = Interrupted,
    ) -> None:
        self._place = place
        self._within = within
        self._kind = kind
        self.has_raised = False
        self.lines = 0

    def call(self, work: Callable[[], object]) -> bool:
        """Whether it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            work()
        except self._kind:
            return True
        finally:
            sys.settrace(before)
        return False

    def _on_call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._on_line if frame.f_code.co_filename.startswith(self._within) else None

    def _on_line(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self._place:
                self._interrupt()
        return self._on_line

    def _interrupt(self) -> None:
        self.has_raised = True
        raise self._kind


class Accounts:
    """What a publisher said of each message, to be held against what two queues have: one that
    takes everything, and one that refuses everything."""

    topology = topology_of(
        WORK.replace("{name: work.queue}", "{name: full, max_length: 0, overflow: reject-publish}")
    )

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        bench.set_up(self.topology)
        bench.channel.queue_declare(OPEN, durable=True)
        self._lock = threading.Lock()
        self._numbers = iter(range(1_000_000))
        self._receipts: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()

    def message(self, publisher: Publisher, queue: str) -> Outgoing:
        """The next one, numbered, straight to ``queue``."""
        return publisher.outgoing(self._envelope(queue), route=Route("", queue))

    def _envelope(self, queue: str) -> Envelope:
        with self._lock:
            number = next(self._numbers)
        return Envelope.of(request(number), message_id=f"{queue}-{number}")

    def publish(self, publisher: Publisher, *queues: str, timeout_s: float = 30.0) -> list[Outcome]:
        messages = [self.message(publisher, queue) for queue in queues]
        outcomes = publisher.send(messages, timeout_s=timeout_s)
        self.note(messages, outcomes)
        return outcomes

    def publish_one(self, publisher: Publisher, queue: str) -> None:
        self._receipt(publisher.publish(self._envelope(queue), route=Route("", queue)))

    def publish_three(self, publisher: Publisher, queue: str) -> None:
        envelopes = [self._envelope(queue) for _ in range(3)]
        for receipt in publisher.publish_many(envelopes, route=Route("", queue)):
            self._receipt(receipt)

    def _receipt(self, receipt: Receipt) -> None:
        with self._lock:
            self._receipts[receipt.message_id] += 1

    def note(self, messages: list[Outgoing], outcomes: list[Outcome]) -> None:
        with self._lock:
            for message, outcome in zip(messages, outcomes, strict=True):
                message_id = str(message.properties.message_id)
                if isinstance(outcome, Receipt):
                    self._receipts[message_id] += 1
                elif isinstance(outcome, PublishRefused):
                    self._refusals[message_id] += 1

    def false_words(self) -> list[str]:
        """Receipts of what is in no queue, and refusals of what is in one."""
        found = {str(one.properties.message_id) for one in self._bench.take_all(OPEN)}
        found |= {str(one.properties.message_id) for one in self._bench.take_all(FULL)}
        false = [f"receipt of {one}" for one in self._receipts if one not in found]
        return false + [f"refusal of {one}" for one in self._refusals if one in found]

"""When others may have been given a message."""

from __future__ import annotations

from typing import Any

from attune_mq.broker.inspection import QueueCounts
from attune_mq.migration.drain import drain


class GrowingReader:
    """As ``QueueReader``, which has more room once it acknowledged."""

    queue = "queue"

    def __init__(self) -> None:
        self._prefetch = 2
        self._batches: list[list[Any]] = [[], ["1", "2"]]

    def take(self, *, wait_s: float) -> list[Any]:
        return self._batches.pop(0) if self._batches else []

    def has_room(self, taken: list[Any]) -> bool:
        return len(taken) < self._prefetch

    def move(self, taken: list[Any]) -> None:
        if taken:
            self._prefetch = 8


def test_while_as_many_as_fit_were_taken_others_may_have_been_given_one() -> None:
    reader: Any = GrowingReader()
    asked: list[int] = []

    drain(
        reader, reader.move, lambda _: QueueCounts(0, 3), asked.append, lambda: True,
        is_shared=False, stall_s=60,
    )  # fmt: skip

    assert asked == [2, 2], "what others hold was not asked for again"

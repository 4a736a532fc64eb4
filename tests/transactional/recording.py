"""A publisher that remembers what it was asked to publish, and fails when told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from attune_mq.errors import PublishError
from attune_mq.transactional import OutboundMessage

Outcome = PublishError | None


class RecordingPublisher:
    """Confirms everything, or what ``judge`` confirms; ``judge`` may also raise."""

    def __init__(self, judge: Callable[[OutboundMessage], Outcome] | None = None) -> None:
        self.judge = judge
        self.batches: list[list[OutboundMessage]] = []
        self._lock = Lock()

    @property
    def message_ids(self) -> list[str]:
        with self._lock:
            return [message.message_id for batch in self.batches for message in batch]

    def publish_envelopes(self, items: Sequence[OutboundMessage]) -> Sequence[Outcome]:
        with self._lock:
            self.batches.append(list(items))
        return [None if self.judge is None else self.judge(message) for message in items]


def refuse(message: OutboundMessage) -> Outcome:
    return PublishError("no queue takes it")

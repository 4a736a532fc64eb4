"""Which workers are alive: those whose queue has a consumer at the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from attune_mq import QueueInspector, Route, Topology, instantiate
from attune_mq.payloads import ExecutionCancelRequested, ExecutionDispatch

FRESH_S = 0.5
"""An answer of the broker is good for so long: scheduling many executions asks once."""


class WorkerQueues:
    """The queues of the family ``worker``: where they are, and whether somebody consumes them."""

    FAMILY = "worker"
    QUEUE = "executions"

    def __init__(self, topology: Topology, inspector: QueueInspector) -> None:
        self._topology = topology
        self._inspector = inspector
        self._answers: dict[int, _Answer] = {}
        self._instances: dict[int, Topology] = {}
        self._lock = threading.Lock()

    def dispatch_route(self, worker_id: int) -> Route:
        return self._instance(worker_id).route(ExecutionDispatch.message_type)

    def cancel_route(self, worker_id: int) -> Route:
        return self._instance(worker_id).route(ExecutionCancelRequested.message_type)

    def known(self, worker_id: int) -> bool | None:
        """Whether it lives, from memory, as the broker said last; ``None``: that is not known."""
        with self._lock:
            answer = self._answers.get(worker_id)
            if answer is None:
                return None
            answer.is_used = True
            return answer.is_alive

    def consumers(self, worker_id: int) -> int | None:
        """How many consume its queue, asked now; ``None``: there is no such queue."""
        return self._inspector.consumer_count(self._queue(worker_id))

    def refresh(self) -> None:
        """Asks the broker again where an answer is older than ``FRESH_S`` and was used, and forgets
        those that were not."""
        old = time.monotonic() - FRESH_S
        with self._lock:
            stale = {key: one for key, one in self._answers.items() if one.asked_at_s < old}
            for worker_id, answer in stale.items():
                if not answer.is_used:
                    del self._answers[worker_id]
        for worker_id, answer in stale.items():
            if answer.is_used:
                self._ask(worker_id)

    def ask_until_one_lives(self, worker_ids: Iterable[int]) -> None:
        """Asks the broker about these workers, in their order."""
        for worker_id in worker_ids:
            if self._ask(worker_id):
                return

    def _ask(self, worker_id: int) -> bool:
        now_s = time.monotonic()
        answer = _Answer(now_s, is_alive=bool(self.consumers(worker_id)))
        with self._lock:
            self._answers[worker_id] = answer
        return answer.is_alive

    def _queue(self, worker_id: int) -> str:
        return self._instance(worker_id).queues[self.QUEUE].name

    def _instance(self, worker_id: int) -> Topology:
        instance = self._instances.get(worker_id)
        if instance is None:
            instance = instantiate(self._topology, self.FAMILY, worker_id=worker_id)
            self._instances[worker_id] = instance
        return instance


@dataclass
class _Answer:
    """``is_used``: somebody looked at it."""

    asked_at_s: float
    is_alive: bool
    is_used: bool = False

"""Worker liveness: a worker is alive while its queue has a consumer at the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from attune_mq import Route, Topology, instantiate
from attune_mq.broker import QueueInspector
from attune_mq.payloads import ExecutionCancelRequested, ExecutionDispatch

FRESH_S = 0.5
"""Maximum age of a cached answer: scheduling many executions asks the broker once."""


class WorkerQueues:
    """The queues of the family ``worker``: their routes, and whether they have consumers."""

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

    def is_alive_cached(self, worker_id: int) -> bool | None:
        """The broker's last answer; ``None``: there is none."""
        with self._lock:
            answer = self._answers.get(worker_id)
            if answer is None:
                return None
            answer.is_used = True
            return answer.is_alive

    def consumers(self, worker_id: int) -> int | None:
        """Asks the broker for the number of consumers; ``None``: there is no such queue."""
        queue = self._instance(worker_id).queues["executions"]
        return self._inspector.consumer_count(queue.name)

    def refresh(self) -> None:
        """Asks the broker again where an answer is older than ``FRESH_S`` and was used, and drops
        those that were not."""
        old = time.monotonic() - FRESH_S
        with self._lock:
            stale = {key: one for key, one in self._answers.items() if one.asked_at_s < old}
            for worker_id in stale:
                if not stale[worker_id].is_used:
                    del self._answers[worker_id]
        for worker_id, answer in stale.items():
            if answer.is_used:
                self._ask(worker_id)

    def ask_until_one_lives(self, worker_ids: Iterable[int]) -> None:
        """Asks the broker about these workers, in order, until one is alive."""
        for worker_id in worker_ids:
            if self._ask(worker_id):
                return

    def _ask(self, worker_id: int) -> bool:
        answer = _Answer(time.monotonic(), is_alive=bool(self.consumers(worker_id)))
        with self._lock:
            self._answers[worker_id] = answer
        return answer.is_alive

    def _instance(self, worker_id: int) -> Topology:
        if worker_id not in self._instances:
            instance = instantiate(self._topology, "worker", worker_id=worker_id)
            self._instances[worker_id] = instance
        return self._instances[worker_id]


@dataclass
class _Answer:
    asked_at_s: float
    is_alive: bool
    is_used: bool = False

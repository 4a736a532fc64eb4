"""Which workers are alive: those whose queue has a consumer at the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

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
        self._answers: dict[int, tuple[float, bool]] = {}
        self._instances: dict[int, Topology] = {}
        self._lock = threading.Lock()

    def dispatch_route(self, worker_id: int) -> Route:
        return self._instance(worker_id).route(ExecutionDispatch.message_type)

    def cancel_route(self, worker_id: int) -> Route:
        return self._instance(worker_id).route(ExecutionCancelRequested.message_type)

    def known(self, worker_id: int) -> bool | None:
        """Whether it lives, from memory, as :meth:`refresh` found it; ``None``: never asked."""
        with self._lock:
            answer = self._answers.get(worker_id)
        return None if answer is None else answer[1]

    def refresh(self) -> None:
        """Asks the broker again about all whose answer is older than ``FRESH_S``."""
        old = time.monotonic() - FRESH_S
        with self._lock:
            stale = [worker for worker, (asked, _) in self._answers.items() if asked < old]
        self.ask(stale)

    def ask(self, worker_ids: Iterable[int]) -> None:
        """Asks the broker about these workers."""
        for worker_id in worker_ids:
            now = time.monotonic()
            queue = self._instance(worker_id).queues[self.QUEUE].name
            alive = bool(self._inspector.consumer_count(queue))
            with self._lock:
                self._answers[worker_id] = (now, alive)

    def _instance(self, worker_id: int) -> Topology:
        instance = self._instances.get(worker_id)
        if instance is None:
            instance = instantiate(self._topology, self.FAMILY, worker_id=worker_id)
            self._instances[worker_id] = instance
        return instance

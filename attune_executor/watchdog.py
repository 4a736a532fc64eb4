"""The watchdog of dispatches: ends or reschedules executions whose worker does not report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from attune_executor import dispatches
from attune_executor.manager import ask_to_cancel, notify
from attune_executor.overdue import Absence, End, Limits, ScheduleAgain, verdict
from attune_executor.store import Execution
from attune_executor.transactions import Transactions, UnitOfWork
from attune_executor.worker_liveness import WorkerQueues
from attune_mq.payloads import ExecutionRequested, ExecutionStatus
from attune_mq.transactional import utc_now

logger = logging.getLogger(__name__)

K = TypeVar("K")


@dataclass
class DispatchWatchdog:
    """Checks the executions that workers have, and decides by :func:`~.overdue.verdict`.

    Each executor has one; where several decide at once, one succeeds. A decision is one
    transaction: the new state, by compare-and-set; messages for the worker deleted from the outbox;
    the notification, or the request to schedule again. After a crash all of it has happened or
    none, and the next look decides again.

    How long a worker or a dispatch is absent is measured on the monotonic clock from when this
    watchdog first saw it. It starts again with the process, and after a look that failed. How long
    nothing was reported is measured by the wall clock as well.

    An execution can run twice: where it is scheduled again, since its worker's queue was absent for
    the grace period, and that worker had begun it without a report.
    """

    transactions: Transactions
    workers: WorkerQueues
    limits: Limits
    attempts: int
    clock_s: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._without_consumer = _Since[int]()
        self._without_queue = _Since[int]()
        self._without_dispatch = _Since[int]()
        self._without_word = _Since[tuple[int, datetime]]()

    def look(self) -> None:
        """Checks all of them once.

        Raises what broker or database raise while they are unavailable. The next look starts to
        measure anew: reports are then still on their way.
        """
        try:
            self._look()
        except BaseException:
            self._without_consumer.clear()
            self._without_queue.clear()
            self._without_dispatch.clear()
            self._without_word.clear()
            raise

    def _look(self) -> None:
        limits, now, now_s = self.limits, utc_now(), self.clock_s()
        with self.transactions.reading() as tx:
            worker_ids = dispatches.workers_with_work(tx)
        consumers = {worker_id: self.workers.consumers(worker_id) for worker_id in worker_ids}
        self._without_consumer.are([one for one, number in consumers.items() if not number], now_s)
        self._without_queue.are([one for one, number in consumers.items() if number is None], now_s)
        with self.transactions.reading() as tx:
            seen = dispatches.unreported(
                tx,
                workers_without_queue=self._without_queue.keys(),
                silent_before=now - min(limits.dispatch_limit, limits.running_limit),
            )
        dead = [one.execution_id for one in seen if one.dispatch_died_at is not None]
        self._without_dispatch.are(dead, now_s)
        self._without_word.are([(one.execution_id, one.updated_at) for one in seen], now_s)
        for execution in seen:
            match verdict(execution, self._absence(execution, now_s), limits, now):
                case ScheduleAgain():
                    self._schedule_again(execution)
                case End() as end:
                    self._end(execution, end)

    def _absence(self, execution: Execution, now_s: float) -> Absence:
        return Absence(
            self._without_consumer.lasts(execution.worker_id, now_s),
            self._without_queue.lasts(execution.worker_id, now_s),
            self._without_dispatch.lasts(execution.execution_id, now_s),
            self._without_word.lasts((execution.execution_id, execution.updated_at), now_s),
        )

    def _schedule_again(self, execution: Execution) -> None:
        if execution.scheduling_attempts >= self.attempts:
            reason = f"its worker's queue is gone, after {self.attempts} attempts"
            self._end(execution, End(ExecutionStatus.FAILED, reason))
            return

        def decide(unit: UnitOfWork) -> bool:
            if not dispatches.unschedule(unit.tx, execution, unit.now):
                return False
            if not dispatches.withdraw(unit.tx, execution, unit.now):
                raise _IsBeingPublished
            unit.publish_after_commit(
                ExecutionRequested(
                    execution_id=execution.execution_id,
                    action_id=execution.action_id,
                    action_ref=execution.action_ref,
                    enforcement_id=execution.enforcement_id,
                    config=execution.config,
                )
            )
            return True

        with suppress(_IsBeingPublished):
            if self.transactions.decide(decide):
                logger.warning(
                    "Execution %d is scheduled again: the queue of worker %s is gone",
                    execution.execution_id,
                    execution.worker_id,
                )

    def _end(self, execution: Execution, end: End) -> None:
        execution_id, worker_id = execution.execution_id, execution.worker_id

        def decide(unit: UnitOfWork) -> bool:
            result = {"error": end.reason}
            if not dispatches.end_unreported(unit.tx, execution, end.status, unit.now, result):
                return False
            notify(unit, execution_id, end.status)
            dispatches.withdraw(unit.tx, execution, unit.now)
            if end.is_out and worker_id is not None:
                ask_to_cancel(unit, self.workers, execution_id, worker_id)
            return True

        if self.transactions.decide(decide):
            logger.warning("Execution %d is %s: %s", execution_id, end.status.value, end.reason)


class _Since(dict[K, float]):
    """Since when each has been observed without a break."""

    def are(self, these: Iterable[K], now_s: float) -> None:
        """These are observed now, and no others."""
        still = {one: self.get(one, now_s) for one in these}
        self.clear()
        self.update(still)

    def lasts(self, one: K | None, now_s: float) -> timedelta | None:
        since_s = None if one is None else self.get(one)
        return None if since_s is None else timedelta(seconds=now_s - since_s)


class _IsBeingPublished(Exception):
    """A relay may be publishing the dispatch: rolled back, to be decided at the next look."""

"""The watchdog of dispatches: no execution waits for ever for a worker that does not report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from attune_executor.dispatches import (
    end_unreported,
    unreported,
    unschedule,
    withdraw,
    workers_with_work,
)
from attune_executor.ledger import Entry, Ledger
from attune_executor.manager import ask_to_cancel, tell_people
from attune_executor.overdue import Absence, End, Limits, ScheduleAnew, Verdict, verdict
from attune_executor.presence import WorkerQueues
from attune_executor.store import Execution
from attune_mq.payloads import ExecutionRequested, ExecutionStatus
from attune_mq.transactional import utc_now

logger = logging.getLogger(__name__)

K = TypeVar("K")


class DispatchWatchdog:
    """Looks at the executions that workers have, and decides by :func:`~.overdue.verdict`.

    Each executor has one, and of several that decide at once one has its way. A decision is one
    transaction: the new state, set only if nothing was heard since it was read; what was for the
    worker, taken out of the outbox; the notification, or the request to be scheduled anew. When
    the power fails, all of it has happened or none, and the next look decides again.

    How long a worker or a dispatch is gone is measured from when this watchdog first saw it so, on
    the monotonic clock. That begins again with the process, and after a look that failed. For how
    long nothing was heard is measured by the clock of the machine as well.

    An execution can run twice: where it is scheduled anew, since its worker's queue was gone for
    the grace, and that worker had begun it without reporting so.
    """

    def __init__(
        self,
        ledger: Ledger,
        workers: WorkerQueues,
        *,
        limits: Limits,
        attempts: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._workers = workers
        self._limits = limits
        self._attempts = attempts
        self._clock_s = clock_s
        self._without_consumer = _Since[int]()
        self._without_queue = _Since[int]()
        self._without_dispatch = _Since[int]()
        self._without_word = _Since[tuple[int, datetime]]()

    def look(self) -> None:
        """One look at all of them.

        Raises what the broker or the database raises where it is away. The next look begins anew:
        what was to be heard meanwhile is still on its way.
        """
        try:
            self._look()
        except BaseException:
            for since in (
                self._without_consumer,
                self._without_queue,
                self._without_dispatch,
                self._without_word,
            ):
                since.clear()
            raise

    def _look(self) -> None:
        limits, now, now_s = self._limits, utc_now(), self._clock_s()
        with self._ledger.reading() as tx:
            worker_ids = workers_with_work(tx)
        consumers = {worker_id: self._workers.consumers(worker_id) for worker_id in worker_ids}
        self._without_consumer.are([one for one, number in consumers.items() if not number], now_s)
        self._without_queue.are([one for one, number in consumers.items() if number is None], now_s)
        with self._ledger.reading() as tx:
            seen = unreported(
                tx,
                workers_without_queue=self._without_queue.keys(),
                silent_before=now - min(limits.dispatch_limit, limits.running_limit),
            )
        dead = [one.execution_id for one in seen if one.dispatch_died_at is not None]
        self._without_dispatch.are(dead, now_s)
        self._without_word.are([(one.execution_id, one.updated_at) for one in seen], now_s)
        for execution in seen:
            self._decide(
                execution, verdict(execution, self._absence(execution, now_s), limits, now)
            )

    def _absence(self, execution: Execution, now_s: float) -> Absence:
        return Absence(
            self._without_consumer.lasts(execution.worker_id, now_s),
            self._without_queue.lasts(execution.worker_id, now_s),
            self._without_dispatch.lasts(execution.execution_id, now_s),
            self._without_word.lasts((execution.execution_id, execution.updated_at), now_s),
        )

    def _decide(self, execution: Execution, decided: Verdict) -> None:
        match decided:
            case ScheduleAnew():
                self._schedule_anew(execution)
            case End():
                self._end(execution, decided)
            case None:
                pass

    def _schedule_anew(self, execution: Execution) -> None:
        if execution.scheduling_attempts >= self._attempts:
            reason = f"its worker's queue is gone, after {self._attempts} attempts"
            self._end(execution, End(ExecutionStatus.FAILED, reason))
            return

        def decide(entry: Entry) -> bool:
            if not unschedule(entry.tx, execution, entry.now):
                return False
            if not withdraw(entry.tx, execution, entry.now):
                raise _InHand
            entry.say(_request(execution))
            return True

        with suppress(_InHand):
            if self._ledger.decide(decide):
                logger.warning(
                    "Execution %d is scheduled anew: the queue of worker %s is gone",
                    execution.execution_id,
                    execution.worker_id,
                )

    def _end(self, execution: Execution, end: End) -> None:
        execution_id, worker_id = execution.execution_id, execution.worker_id

        def decide(entry: Entry) -> bool:
            result = {"error": end.reason}
            if not end_unreported(entry.tx, execution, end.status, entry.now, result):
                return False
            tell_people(entry, execution_id, end.status)
            withdraw(entry.tx, execution, entry.now)
            if end.is_out and worker_id is not None:
                ask_to_cancel(entry, self._workers, execution_id, worker_id)
            return True

        if self._ledger.decide(decide):
            logger.warning("Execution %d is %s: %s", execution_id, end.status.value, end.reason)


def _request(execution: Execution) -> ExecutionRequested:
    return ExecutionRequested(
        execution_id=execution.execution_id,
        action_id=execution.action_id,
        action_ref=execution.action_ref,
        enforcement_id=execution.enforcement_id,
        config=execution.config,
    )


class _Since(dict[K, float]):
    """Since when something was seen to be so, without a break."""

    def are(self, these: Iterable[K], now_s: float) -> None:
        """These are so now, and no others."""
        still = {one: self.get(one, now_s) for one in these}
        self.clear()
        self.update(still)

    def lasts(self, one: K | None, now_s: float) -> timedelta | None:
        since_s = None if one is None else self.get(one)
        return None if since_s is None else timedelta(seconds=now_s - since_s)


class _InHand(Exception):
    """A relay may be publishing the dispatch, to a queue that may come back: it is tried again
    at the next look, and nothing of the transaction stays."""

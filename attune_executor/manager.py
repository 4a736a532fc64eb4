"""The execution manager: moves executions along their states."""

from __future__ import annotations

from typing import Any

from attune_executor import store
from attune_executor.dispatches import message_id, note_death, note_running
from attune_executor.lifecycle import DISPATCHED, FINAL, UNSCHEDULED, WITH_WORKER
from attune_executor.transactions import Transactions, UnitOfWork
from attune_executor.worker_liveness import WorkerQueues
from attune_mq import Message, Reject, Service
from attune_mq.payloads import (
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionDispatch,
    ExecutionStatus,
    ExecutionStatusChanged,
    NotificationCreated,
)


def require_known(unit: UnitOfWork, execution_id: int) -> store.Execution:
    """Raises :class:`~attune_mq.Reject` for an execution that is not in the database."""
    execution = store.get_execution(unit.tx, execution_id)
    if execution is None:
        raise Reject(f"execution {execution_id} is not known to this executor")
    return execution


def finish(
    unit: UnitOfWork,
    execution_id: int,
    status: ExecutionStatus,
    result: Any,
    *,
    since: frozenset[ExecutionStatus] | None = None,
) -> bool:
    """Ends an execution that is in one of the states ``since`` (by default any that is not final),
    and notifies users; ``False`` when it is in none of them."""
    ended = store.move_execution(
        unit.tx, execution_id, status, unit.now, result=result, since=since
    )
    if ended:
        notify(unit, execution_id, status)
    return ended


def notify(unit: UnitOfWork, execution_id: int, end: ExecutionStatus) -> None:
    """Notifies users of an execution that this transaction has ended."""
    unit.publish_after_commit(
        NotificationCreated(
            notification_id=execution_id,  # an execution ends once
            channel="executions",
            entity_type="execution",
            entity=str(execution_id),
            activity=end.value,
        )
    )


def ask_to_cancel(
    unit: UnitOfWork,
    workers: WorkerQueues,
    execution_id: int,
    worker_id: int,
    *,
    message_id: str | None = None,
) -> None:
    unit.publish_after_commit(
        ExecutionCancelRequested(execution_id=execution_id, worker_id=worker_id),
        route=workers.cancel_route(worker_id),
        message_id=message_id,
    )


class ExecutionManager:
    """Handles reports of workers, requests to cancel, and dead-lettered dispatches. A message that
    is late or repeated changes nothing."""

    def __init__(self, transactions: Transactions, workers: WorkerQueues) -> None:
        self._transactions = transactions
        self._workers = workers

    def register(self, service: Service) -> None:
        service.on(ExecutionStatusChanged)(self.on_status)
        service.on(ExecutionCompleted)(self.on_completed)
        service.on(ExecutionCancelRequested)(self.on_cancel)
        service.on(ExecutionDispatch)(self.on_dead_dispatch)

    def on_status(self, message: Message[ExecutionStatusChanged]) -> None:
        change = message.payload

        def report(unit: UnitOfWork) -> None:
            match change.new_status:
                case ExecutionStatus.RUNNING:
                    self._runs(unit, change.execution_id)
                case ExecutionStatus.CANCELING as status:
                    if not store.move_execution(unit.tx, change.execution_id, status, unit.now):
                        require_known(unit, change.execution_id)
                case status if status in FINAL:
                    self._end(unit, change.execution_id, status, None)
                case _:  # set by the executor only
                    pass

        self._transactions.once(message, report)

    def on_completed(self, message: Message[ExecutionCompleted]) -> None:
        done = message.payload
        if done.status not in FINAL:
            raise Reject(f"expected a final status, got {done.status.value}")
        self._transactions.once(
            message, lambda unit: self._end(unit, done.execution_id, done.status, done.result)
        )

    def on_cancel(self, message: Message[ExecutionCancelRequested]) -> None:
        self._transactions.once(message, lambda unit: self._cancel(unit, message.payload))

    def on_dead_dispatch(self, message: Message[ExecutionDispatch]) -> None:
        """A dispatch expired in its worker's queue, before or after delivery, or was rejected.

        After an expiry the report that the execution runs may still be on its way: it is recorded,
        and :class:`~attune_executor.watchdog.DispatchWatchdog` decides later. A worker that
        rejected it has reported that the execution failed.
        """
        dead, was_rejected = message.payload, _was_rejected(message)
        queue = message.delivery.died_in
        result = {"error": f"the dispatch died in the queue {queue}: its worker gave it up"}

        def record(unit: UnitOfWork) -> None:
            since = dead.scheduled_attempt_updated_at
            if not note_death(unit.tx, dead.execution_id, since, unit.now):
                require_known(unit, dead.execution_id)
            elif was_rejected:
                failed = ExecutionStatus.FAILED
                finish(unit, dead.execution_id, failed, result, since=WITH_WORKER)

        self._transactions.once(message, record, dead=True)

    def _end(
        self, unit: UnitOfWork, execution_id: int, status: ExecutionStatus, result: Any
    ) -> None:
        if not finish(unit, execution_id, status, result):
            require_known(unit, execution_id)

    def _runs(self, unit: UnitOfWork, execution_id: int) -> None:
        """An execution that the executor ended for want of a report runs: its worker is notified to
        cancel."""
        running = ExecutionStatus.RUNNING
        if store.move_execution(unit.tx, execution_id, running, unit.now):
            return
        if note_running(unit.tx, execution_id, unit.now):
            return
        execution = require_known(unit, execution_id)
        is_unwanted = execution.status is ExecutionStatus.ABANDONED or (
            execution.status in FINAL - {ExecutionStatus.COMPLETED} and execution.started_at is None
        )
        if is_unwanted and execution.worker_id is not None:
            ask_to_cancel(unit, self._workers, execution_id, execution.worker_id)

    def _cancel(self, unit: UnitOfWork, request: ExecutionCancelRequested) -> None:
        """An execution that no worker has is cancelled here; otherwise its worker is asked to.

        Each is tried by a compare-and-set, and again while another executor moves the execution
        from the one to the other.
        """
        execution_id = request.execution_id
        while True:
            if finish(unit, execution_id, ExecutionStatus.CANCELLED, None, since=UNSCHEDULED):
                return
            is_canceling = store.move_execution(
                unit.tx, execution_id, ExecutionStatus.CANCELING, unit.now, since=DISPATCHED
            )
            execution = require_known(unit, execution_id)
            if is_canceling:
                self._ask_worker(unit, execution, request)
                return
            if execution.status not in UNSCHEDULED | DISPATCHED:
                return

    def _ask_worker(
        self, unit: UnitOfWork, execution: store.Execution, request: ExecutionCancelRequested
    ) -> None:
        """The request names the worker of an execution that this executor never scheduled."""
        worker_id = request.worker_id if execution.worker_id is None else execution.worker_id
        execution_id, scheduled_at = execution.execution_id, execution.scheduled_at
        known = None if scheduled_at is None else message_id("cancel", execution_id, scheduled_at)
        ask_to_cancel(unit, self._workers, execution_id, worker_id, message_id=known)


def _was_rejected(dead: Message[ExecutionDispatch]) -> bool:
    """Whether its worker rejected it. Not one that exceeded the delivery limit: the consumer that
    rejected that did not begin it, while another may have."""
    deaths = dead.delivery.deaths
    if deaths and deaths[0].reason == "rejected":
        return True
    return bool(dead.delivery.headers.get("x-attune-reason", "redelivered") != "redelivered")

"""The execution manager: moves executions along their states."""

from __future__ import annotations

from typing import Any

from attune_executor import store
from attune_executor.ledger import Entry, Ledger
from attune_executor.lifecycle import FINAL, REPORTABLE, UNSCHEDULED
from attune_executor.presence import WorkerQueues
from attune_mq import Message, Reject, Service
from attune_mq.payloads import (
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionDispatch,
    ExecutionStatus,
    ExecutionStatusChanged,
    NotificationCreated,
)


def require_known(entry: Entry, execution_id: int) -> store.Execution:
    """Executions are made here, from enforcements. A message about another one is for people.

    Raises :class:`~attune_mq.Reject`.
    """
    execution = store.get_execution(entry.tx, execution_id)
    if execution is None:
        raise Reject(f"execution {execution_id} is not known to this executor")
    return execution


def finish(entry: Entry, execution_id: int, status: ExecutionStatus, result: Any) -> None:
    """Ends an execution and tells people, unless it has ended already."""
    if not store.move_execution(entry.tx, execution_id, status, entry.now, result=result):
        require_known(entry, execution_id)
        return
    entry.say(
        NotificationCreated(
            notification_id=execution_id,  # an execution ends once
            channel="executions",
            entity_type="execution",
            entity=str(execution_id),
            activity=status.value,
        )
    )


class ExecutionManager:
    """Takes what workers report, what is to be cancelled, and dispatches that died in a worker's
    queue. What is late or repeated changes nothing."""

    def __init__(self, ledger: Ledger, workers: WorkerQueues) -> None:
        self._ledger = ledger
        self._workers = workers

    def register(self, service: Service) -> None:
        service.on(ExecutionStatusChanged)(self.on_status)
        service.on(ExecutionCompleted)(self.on_completed)
        service.on(ExecutionCancelRequested)(self.on_cancel)
        service.on(ExecutionDispatch)(self.on_dead_dispatch)

    def on_status(self, message: Message[ExecutionStatusChanged]) -> None:
        change = message.payload
        self._ledger.once(
            message, lambda entry: _move(entry, change.execution_id, change.new_status)
        )

    def on_completed(self, message: Message[ExecutionCompleted]) -> None:
        done = message.payload
        if done.status not in FINAL:
            raise Reject(f"expected a final status, got {done.status.value}")
        self._ledger.once(
            message, lambda entry: finish(entry, done.execution_id, done.status, done.result)
        )

    def on_cancel(self, message: Message[ExecutionCancelRequested]) -> None:
        request = message.payload
        self._ledger.once(message, lambda entry: self._cancel(entry, request))

    def on_dead_dispatch(self, message: Message[ExecutionDispatch]) -> None:
        """It expired before its worker took it, or its worker gave it up."""
        queue = message.delivery.died_in
        result = {
            "error": f"the dispatch died in the queue {queue}: its worker did not do it in time"
        }
        self._ledger.once(
            message,
            lambda entry: finish(
                entry, message.payload.execution_id, ExecutionStatus.FAILED, result
            ),
            dead=True,
        )

    def _cancel(self, entry: Entry, request: ExecutionCancelRequested) -> None:
        """What no worker has is cancelled here; otherwise its worker is asked to."""
        execution = require_known(entry, request.execution_id)
        if execution.status in UNSCHEDULED or execution.worker_id is None:
            finish(entry, request.execution_id, ExecutionStatus.CANCELLED, None)
        elif store.move_execution(
            entry.tx, request.execution_id, ExecutionStatus.CANCELING, entry.now
        ):
            entry.say(
                ExecutionCancelRequested(
                    execution_id=request.execution_id, worker_id=execution.worker_id
                ),
                route=self._workers.cancel_route(execution.worker_id),
            )


def _move(entry: Entry, execution_id: int, status: ExecutionStatus) -> None:
    if status in FINAL:
        finish(entry, execution_id, status, None)
        return
    if status not in REPORTABLE:
        return
    if not store.move_execution(entry.tx, execution_id, status, entry.now):
        require_known(entry, execution_id)

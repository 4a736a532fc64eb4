"""The execution manager: moves executions along their states."""

from __future__ import annotations

from typing import Any

from attune_executor import store
from attune_executor.dispatches import cancel_message_id, note_death, note_running
from attune_executor.ledger import Entry, Ledger
from attune_executor.lifecycle import DISPATCHED, FINAL, UNSCHEDULED, WITH_WORKER
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


def finish(
    entry: Entry,
    execution_id: int,
    status: ExecutionStatus,
    result: Any,
    *,
    since: frozenset[ExecutionStatus] | None = None,
) -> bool:
    """Ends an execution that is in one of the states ``since`` (any that is not final, unless
    given), and tells people; ``False`` when it is in none of them."""
    ended = store.move_execution(
        entry.tx, execution_id, status, entry.now, result=result, since=since
    )
    if ended:
        tell_people(entry, execution_id, status)
    return ended


def tell_people(entry: Entry, execution_id: int, end: ExecutionStatus) -> None:
    """Of an execution that this transaction ended, and no other one can end."""
    entry.say(
        NotificationCreated(
            notification_id=execution_id,  # an execution ends once
            channel="executions",
            entity_type="execution",
            entity=str(execution_id),
            activity=end.value,
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
            message, lambda entry: self._report(entry, change.execution_id, change.new_status)
        )

    def on_completed(self, message: Message[ExecutionCompleted]) -> None:
        done = message.payload
        if done.status not in FINAL:
            raise Reject(f"expected a final status, got {done.status.value}")
        self._ledger.once(
            message, lambda entry: self._end(entry, done.execution_id, done.status, done.result)
        )

    def on_cancel(self, message: Message[ExecutionCancelRequested]) -> None:
        request = message.payload
        self._ledger.once(message, lambda entry: self._cancel(entry, request))

    def on_dead_dispatch(self, message: Message[ExecutionDispatch]) -> None:
        """It expired before its worker took it, or after its worker had; or its worker gave it up.

        That it expired ends nothing here: the report that the execution runs may still be on its
        way. It is noted, and :class:`~attune_executor.watchdog.DispatchWatchdog` decides later.
        A worker that gave it up has reported that it failed.
        """
        queue, was_given_up = message.delivery.died_in, _was_given_up(message)
        result = {"error": f"the dispatch died in the queue {queue}: its worker gave it up"}

        def bury(entry: Entry) -> None:
            dead = message.payload
            since = dead.scheduled_attempt_updated_at
            if not note_death(entry.tx, dead.execution_id, since, entry.now):
                require_known(entry, dead.execution_id)
            elif was_given_up:
                failed = ExecutionStatus.FAILED
                finish(entry, dead.execution_id, failed, result, since=WITH_WORKER)

        self._ledger.once(message, bury, dead=True)

    def _report(self, entry: Entry, execution_id: int, status: ExecutionStatus) -> None:
        match status:
            case ExecutionStatus.RUNNING:
                self._runs(entry, execution_id)
            case ExecutionStatus.CANCELING:
                if not store.move_execution(entry.tx, execution_id, status, entry.now):
                    require_known(entry, execution_id)
            case _ if status in FINAL:
                self._end(entry, execution_id, status, None)
            case _:  # the executor's own to say
                pass

    def _end(self, entry: Entry, execution_id: int, status: ExecutionStatus, result: Any) -> None:
        if not finish(entry, execution_id, status, result):
            require_known(entry, execution_id)

    def _runs(self, entry: Entry, execution_id: int) -> None:
        """What the executor ended for want of a report does run: its worker is told."""
        running = ExecutionStatus.RUNNING
        if store.move_execution(entry.tx, execution_id, running, entry.now):
            return
        if note_running(entry.tx, execution_id, entry.now):
            return
        execution = require_known(entry, execution_id)
        is_unwanted = execution.status is ExecutionStatus.ABANDONED or (
            execution.status in FINAL - {ExecutionStatus.COMPLETED} and execution.started_at is None
        )
        if is_unwanted and execution.worker_id is not None:
            ask_to_cancel(entry, self._workers, execution_id, execution.worker_id)

    def _cancel(self, entry: Entry, request: ExecutionCancelRequested) -> None:
        """What no worker has is cancelled here; otherwise its worker is asked to.

        Each is tried by a compare-and-set, and again while another executor moves the execution
        from the one to the other.
        """
        execution_id = request.execution_id
        while True:
            if finish(entry, execution_id, ExecutionStatus.CANCELLED, None, since=UNSCHEDULED):
                return
            is_canceling = store.move_execution(
                entry.tx, execution_id, ExecutionStatus.CANCELING, entry.now, since=DISPATCHED
            )
            execution = require_known(entry, execution_id)
            if is_canceling:
                self._ask_worker(entry, execution, request)
                return
            if execution.status not in UNSCHEDULED | DISPATCHED:
                return

    def _ask_worker(
        self, entry: Entry, execution: store.Execution, request: ExecutionCancelRequested
    ) -> None:
        """One that runs and that this executor never scheduled is with the worker that is named."""
        worker_id = request.worker_id if execution.worker_id is None else execution.worker_id
        execution_id, scheduled_at = execution.execution_id, execution.scheduled_at
        message_id = None if scheduled_at is None else cancel_message_id(execution_id, scheduled_at)
        ask_to_cancel(entry, self._workers, execution_id, worker_id, message_id=message_id)


def ask_to_cancel(
    entry: Entry,
    workers: WorkerQueues,
    execution_id: int,
    worker_id: int,
    *,
    message_id: str | None = None,
) -> None:
    """A request of its own to the worker's queue."""
    entry.say(
        ExecutionCancelRequested(execution_id=execution_id, worker_id=worker_id),
        route=workers.cancel_route(worker_id),
        message_id=message_id,
    )


def _was_given_up(dead: Message[ExecutionDispatch]) -> bool:
    """Whether its worker said that it will not do it. That it came back too often is said by a
    consumer that did not begin it, while another may have."""
    deaths = dead.delivery.deaths
    if deaths and deaths[0].reason == "rejected":
        return True
    reason = dead.delivery.headers.get("x-attune-reason", "redelivered")
    return bool(reason != "redelivered")

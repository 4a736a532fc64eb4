"""The execution scheduler: a living worker for each execution."""

from __future__ import annotations

from datetime import timedelta

from attune_executor import store
from attune_executor.dispatches import dispatch_message_id
from attune_executor.ledger import Entry, Ledger
from attune_executor.lifecycle import UNSCHEDULED
from attune_executor.manager import finish, require_known
from attune_executor.presence import WorkerQueues
from attune_executor.rules import Rules
from attune_mq import Message, Reject, Service
from attune_mq.payloads import (
    ExecutionDispatch,
    ExecutionRequested,
    ExecutionStatus,
    WorkerRegistered,
)


class ExecutionScheduler:
    """Takes ``ExecutionRequested``, chooses the least loaded living worker that has the action's
    runtime, and sends the dispatch to its queue.

    Without such a worker it tries again after ``delay_s``, by a message that waits in the outbox,
    so that it costs no consumer anything; after ``attempts`` the execution fails.
    """

    def __init__(
        self, ledger: Ledger, rules: Rules, workers: WorkerQueues, *, attempts: int, delay_s: float
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._workers = workers
        self._attempts = attempts
        self._delay = timedelta(seconds=delay_s)

    def register(self, service: Service) -> None:
        service.on(ExecutionRequested)(self.on_request)
        service.on(WorkerRegistered)(self.on_worker)

    def on_worker(self, message: Message[WorkerRegistered]) -> None:
        self._ledger.once(message, lambda entry: _register(entry, message.payload))

    def on_request(self, message: Message[ExecutionRequested]) -> None:
        """The broker is asked about the workers before the transaction begins, which is short; of
        one that shows only there, before it begins again."""
        request = message.payload
        action = self._rules.actions.get(request.action_ref)
        if action is None:
            raise Reject(f"no action {request.action_ref!r} in the rules file")
        self._workers.refresh()
        while True:
            try:
                self._ledger.once(
                    message, lambda entry: self._schedule(entry, request, action.runtime)
                )
            except _NotAsked as unknown:
                self._workers.ask_until_one_lives(unknown.worker_ids)
            else:
                return

    def _schedule(self, entry: Entry, request: ExecutionRequested, runtime: str) -> None:
        worker = self._living_worker(entry, runtime)
        if worker is None:
            self._postpone(entry, request)
        elif store.mark_scheduled(entry.tx, request.execution_id, worker.worker_id, entry.now):
            self._dispatch(entry, request, worker)
        else:
            require_known(entry, request.execution_id)  # and it waits for no worker any more

    def _living_worker(self, entry: Entry, runtime: str) -> store.Worker | None:
        able = store.workers_for_runtime(entry.tx, runtime)
        for place, worker in enumerate(able):
            is_alive = self._workers.known(worker.worker_id)
            if is_alive is None:
                raise _NotAsked([one.worker_id for one in able[place:]])
            if is_alive:
                return worker
        return None

    def _postpone(self, entry: Entry, request: ExecutionRequested) -> None:
        attempt = store.count_scheduling_attempt(entry.tx, request.execution_id, entry.now)
        if attempt is None:
            require_known(entry, request.execution_id)
        elif attempt < self._attempts:
            entry.say(request, not_before=entry.now + self._delay)
        else:
            reason = f"no living worker for {request.action_ref} in {attempt} attempts"
            result = {"error": reason}
            finish(entry, request.execution_id, ExecutionStatus.FAILED, result, since=UNSCHEDULED)

    def _dispatch(self, entry: Entry, request: ExecutionRequested, worker: store.Worker) -> None:
        entry.say(
            ExecutionDispatch(
                execution_id=request.execution_id,
                worker_id=worker.worker_id,
                action_ref=request.action_ref,
                config=request.config,
                scheduled_attempt_updated_at=entry.now,
            ),
            route=self._workers.dispatch_route(worker.worker_id),
            message_id=dispatch_message_id(request.execution_id, entry.now),
        )


def _register(entry: Entry, payload: WorkerRegistered) -> None:
    store.register_worker(entry.tx, payload, entry.now)


class _NotAsked(Exception):
    """Whether these workers live is not known yet."""

    def __init__(self, worker_ids: list[int]) -> None:
        super().__init__(worker_ids)
        self.worker_ids = worker_ids

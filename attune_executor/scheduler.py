"""The execution scheduler: assigns each execution to a worker that is alive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from attune_executor import store
from attune_executor.dispatches import message_id
from attune_executor.lifecycle import UNSCHEDULED
from attune_executor.manager import finish, require_known
from attune_executor.rules import Rules
from attune_executor.transactions import Transactions, UnitOfWork
from attune_executor.worker_liveness import WorkerQueues
from attune_mq import Message, Reject, Service
from attune_mq.payloads import (
    ExecutionDispatch,
    ExecutionRequested,
    ExecutionStatus,
    WorkerRegistered,
)


@dataclass(frozen=True)
class ExecutionScheduler:
    """Chooses the least loaded worker that is alive and has the action's runtime, and publishes the
    dispatch to its queue.

    Without such a worker it retries after ``delay_s``, by a delayed message in the outbox, which
    occupies no consumer; after ``attempts`` the execution fails.
    """

    transactions: Transactions
    rules: Rules
    workers: WorkerQueues
    attempts: int
    delay_s: float

    def register(self, service: Service) -> None:
        service.on(ExecutionRequested)(self.on_request)
        service.on(WorkerRegistered)(self.on_worker)

    def on_worker(self, message: Message[WorkerRegistered]) -> None:
        def register(unit: UnitOfWork) -> None:
            store.register_worker(unit.tx, message.payload, unit.now)

        self.transactions.once(message, register)

    def on_request(self, message: Message[ExecutionRequested]) -> None:
        """The broker is asked about workers outside of the transaction, which is short: where the
        cache lacks a worker that the transaction finds, it is rolled back and run again."""
        request = message.payload
        action = self.rules.actions.get(request.action_ref)
        if action is None:
            raise Reject(f"no action {request.action_ref!r} in the rules file")
        self.workers.refresh()
        while True:
            try:
                self.transactions.once(
                    message, lambda unit: self._schedule(unit, request, action.runtime)
                )
            except _NotAsked as unknown:
                self.workers.ask_until_one_lives(unknown.args[0])
            else:
                return

    def _schedule(self, unit: UnitOfWork, request: ExecutionRequested, runtime: str) -> None:
        worker = self._living_worker(unit, runtime)
        if worker is None:
            self._postpone(unit, request)
        elif store.mark_scheduled(unit.tx, request.execution_id, worker.worker_id, unit.now):
            self._dispatch(unit, request, worker)
        else:
            require_known(unit, request.execution_id)

    def _living_worker(self, unit: UnitOfWork, runtime: str) -> store.Worker | None:
        able = store.workers_for_runtime(unit.tx, runtime)
        for place, worker in enumerate(able):
            is_alive = self.workers.is_alive_cached(worker.worker_id)
            if is_alive is None:
                raise _NotAsked([one.worker_id for one in able[place:]])
            if is_alive:
                return worker
        return None

    def _postpone(self, unit: UnitOfWork, request: ExecutionRequested) -> None:
        attempt = store.count_scheduling_attempt(unit.tx, request.execution_id, unit.now)
        if attempt is None:
            require_known(unit, request.execution_id)
        elif attempt < self.attempts:
            delay = timedelta(seconds=self.delay_s)
            unit.publish_after_commit(request, not_before=unit.now + delay)
        else:
            reason = f"no living worker for {request.action_ref} in {attempt} attempts"
            result = {"error": reason}
            finish(unit, request.execution_id, ExecutionStatus.FAILED, result, since=UNSCHEDULED)

    def _dispatch(
        self, unit: UnitOfWork, request: ExecutionRequested, worker: store.Worker
    ) -> None:
        unit.publish_after_commit(
            ExecutionDispatch(
                execution_id=request.execution_id,
                worker_id=worker.worker_id,
                action_ref=request.action_ref,
                config=request.config,
                scheduled_attempt_updated_at=unit.now,
            ),
            route=self.workers.dispatch_route(worker.worker_id),
            message_id=message_id("dispatch", request.execution_id, unit.now),
        )


class _NotAsked(Exception):
    """Its argument: the ids of workers whose liveness is not cached."""

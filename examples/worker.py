"""A worker: runs actions in a shell or in Python, with a timeout, and cancels them on request.

    python examples/worker.py --id 1

It announces itself, and counts as alive while it consumes its queue. A message is acknowledged
when its action has ended, so the dispatch of a worker that dies is redelivered, and runs again. A
dispatch redelivered to the process that runs it, after a lost connection, is not started a second
time. A cancellation that arrives before its dispatch prevents the action.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from attune_mq import AttuneError, BrokerUnavailable, Envelope, Message, NotConfirmed, Service
from attune_mq.payloads import (
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionDispatch,
    ExecutionStatus,
    ExecutionStatusChanged,
    Payload,
    WorkerRegistered,
)

RUNTIMES = ("shell", "python")
REPEAT_S = 60.0
"""Interval of the reports that an action runs, by which the executor distinguishes a busy worker
from a restarted one."""
REMEMBERED = 1_000
"""Executions kept, to recognise a redelivered dispatch or cancellation."""
Outcome = tuple[ExecutionStatus, dict[str, Any]]
READ_CONFIG = "import json, os\nconfig = json.loads(os.environ['ATTUNE_CONFIG'])\n"


def command_line(runtime: str, entry: str) -> list[str]:
    if runtime == "python":
        return [sys.executable, "-c", READ_CONFIG + entry]
    return ["/bin/sh", "-c", entry]


class Run:
    """An execution in this process, from its first dispatch or cancellation on."""

    def __init__(self) -> None:
        self.delivery = threading.Lock()  # held by the delivery that runs the action
        self.process: subprocess.Popen[str] | None = None
        self.is_cancelled = False
        self.outcome: Outcome | None = None
        self.is_reported = False


class Worker:
    def __init__(self, service: Service, worker_id: int, actions: dict[str, Any]) -> None:
        self.service = service
        self.worker_id = worker_id
        self.actions = actions
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.runs: dict[int, Run] = {}
        service.on(ExecutionDispatch)(self.run)
        service.on(ExecutionCancelRequested)(self.cancel)

    def start(self) -> None:
        """Announces the worker now, and at intervals: a new executor learns of it."""
        threading.Thread(target=self.announce, daemon=True).start()

    def stop(self, deadline_s: float) -> None:
        self.stopping.set()

    def announce(self) -> None:
        while not self.stopping.is_set():
            registered = WorkerRegistered(
                worker_id=self.worker_id,
                name=f"worker-{self.worker_id}",
                runtimes=RUNTIMES,
                registered_at=datetime.now(UTC),
            )
            with suppress(AttuneError):  # the next one may arrive
                self.report(registered)
            self.stopping.wait(15)

    def report(self, payload: Payload, correlation_id: str | None = None) -> None:
        """Publishes until the broker has confirmed or refused it: there is no second request."""
        envelope = Envelope.of(payload, source_service="worker", correlation_id=correlation_id)
        while True:
            try:
                self.service.publisher.publish(envelope)
                return
            except (BrokerUnavailable, NotConfirmed):
                if self.stopping.wait(1):
                    raise

    def run_of(self, execution_id: int) -> Run:
        """The known run, or a new one. The oldest finished runs are dropped."""
        with self.lock:
            run = self.runs.setdefault(execution_id, Run())
            for other in list(self.runs)[:-REMEMBERED]:
                if not self.runs[other].delivery.locked():
                    del self.runs[other]
            return run

    def run(self, message: Message[ExecutionDispatch]) -> None:
        dispatch = message.payload
        action = self.actions[dispatch.action_ref]
        correlation_id = message.envelope.correlation_id
        run = self.run_of(dispatch.execution_id)
        with run.delivery:  # a duplicate waits, and is acknowledged when the first has ended
            if run.outcome is None:
                run.outcome = self.begin(run, dispatch, action, correlation_id)
            if run.is_reported:
                return
            status, result = run.outcome
            self.report(
                ExecutionCompleted(
                    execution_id=dispatch.execution_id,
                    action_id=action["id"],
                    action_ref=dispatch.action_ref,
                    status=status,
                    result=result,
                    completed_at=datetime.now(UTC),
                ),
                correlation_id,
            )
            run.is_reported = True

    def begin(
        self, run: Run, dispatch: ExecutionDispatch, action: dict[str, Any], correlation_id: str
    ) -> Outcome:
        """Reports that it runs before it does, so that it is not taken for one that never began."""
        if run.is_cancelled:
            return ExecutionStatus.CANCELLED, {}
        self.report(running(dispatch), correlation_id)
        return self.execute(run, dispatch, action)

    def execute(self, run: Run, dispatch: ExecutionDispatch, action: dict[str, Any]) -> Outcome:
        """Passes values in the environment of the action, never on a command line."""
        config = dict(dispatch.config or {})
        texts = {f"ATTUNE_{k.upper()}": v for k, v in config.items() if isinstance(v, str)}
        timeout_s = action.get("timeout_s", 60)
        with self.lock:
            if run.is_cancelled:
                return ExecutionStatus.CANCELLED, {}
            process = run.process = subprocess.Popen(
                command_line(action["runtime"], action["entry"]),
                env={"PATH": os.environ["PATH"], "ATTUNE_CONFIG": json.dumps(config), **texts},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # so that its child processes end with it
            )
        ends_at_s = time.monotonic() + timeout_s
        while True:
            left_s = ends_at_s - time.monotonic()
            try:
                stdout, stderr = process.communicate(timeout=max(0.0, min(left_s, REPEAT_S)))
                break
            except subprocess.TimeoutExpired:
                if left_s <= REPEAT_S:
                    end(process, signal.SIGKILL)
                    process.communicate()
                    return ExecutionStatus.TIMEOUT, {"error": f"ran longer than {timeout_s} s"}
                with suppress(AttuneError):  # the next one may arrive
                    self.service.publisher.publish(running(dispatch))
        result = {"stdout": stdout, "stderr": stderr, "exit_code": process.returncode}
        if process.returncode == 0:  # although it may have been asked to stop
            return ExecutionStatus.COMPLETED, result
        return (ExecutionStatus.CANCELLED if run.is_cancelled else ExecutionStatus.FAILED), result

    def cancel(self, message: Message[ExecutionCancelRequested]) -> None:
        run = self.run_of(message.payload.execution_id)
        with self.lock:
            run.is_cancelled = True
            if run.process is not None:
                end(run.process, signal.SIGTERM)


def running(dispatch: ExecutionDispatch) -> ExecutionStatusChanged:
    return ExecutionStatusChanged(
        execution_id=dispatch.execution_id,
        action_ref=dispatch.action_ref,
        previous_status=ExecutionStatus.SCHEDULED,
        new_status=ExecutionStatus.RUNNING,
        changed_at=datetime.now(UTC),
    )


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """Signals the action and its child processes."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs actions.")
    parser.add_argument("--id", type=int, required=True)
    parser.add_argument("--actions", default=str(Path(__file__).with_name("rules.yaml")))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker    %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)

    actions = yaml.safe_load(Path(options.actions).read_text(encoding="utf-8"))["actions"]
    service = Service("worker", family="worker", worker_id=options.id, wait_s=30)
    service.add_background_task(Worker(service, options.id, actions))
    service.run()


if __name__ == "__main__":
    main()

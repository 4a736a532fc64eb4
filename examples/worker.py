"""A worker: runs actions in a shell or in Python, with a timeout, and cancels them when asked.

    python examples/worker.py --id 1

It announces itself, and counts as alive while it consumes its queue. A message is acknowledged
when its action has ended, so an action whose worker dies is delivered again.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from attune_mq import Message, Service
from attune_mq.payloads import (
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionDispatch,
    ExecutionStatus,
    ExecutionStatusChanged,
    WorkerRegistered,
)

RUNTIMES = ("shell", "python")
READ_CONFIG = "import json, os\nconfig = json.loads(os.environ['ATTUNE_CONFIG'])\n"


def command_line(runtime: str, entry: str) -> list[str]:
    if runtime == "python":
        return [sys.executable, "-c", READ_CONFIG + entry]
    return ["/bin/sh", "-c", entry]


class Worker:
    def __init__(self, service: Service, worker_id: int, actions: dict[str, Any]) -> None:
        self.service = service
        self.worker_id = worker_id
        self.actions = actions
        self.running: dict[int, subprocess.Popen[str]] = {}
        self.cancelled: set[int] = set()
        service.on(ExecutionDispatch)(self.run)
        service.on(ExecutionCancelRequested)(self.cancel)

    def start(self) -> None:
        """Announces the worker now, and again now and then: an executor may be new."""
        self.stopping = threading.Event()
        threading.Thread(target=self.announce, daemon=True).start()

    def stop(self, deadline_s: float) -> None:
        self.stopping.set()

    def announce(self) -> None:
        while True:
            self.service.publisher.publish(
                WorkerRegistered(
                    worker_id=self.worker_id,
                    name=f"worker-{self.worker_id}",
                    runtimes=RUNTIMES,
                    registered_at=datetime.now(UTC),
                )
            )
            if self.stopping.wait(15):
                return

    def run(self, message: Message[ExecutionDispatch]) -> None:
        dispatch = message.payload
        action = self.actions[dispatch.action_ref]
        self.service.publisher.publish(
            ExecutionStatusChanged(
                execution_id=dispatch.execution_id,
                action_ref=dispatch.action_ref,
                previous_status=ExecutionStatus.SCHEDULED,
                new_status=ExecutionStatus.RUNNING,
                changed_at=datetime.now(UTC),
            ),
            correlation_id=message.envelope.correlation_id,
        )
        status, result = self.execute(dispatch, action)
        self.service.publisher.publish(
            ExecutionCompleted(
                execution_id=dispatch.execution_id,
                action_id=action["id"],
                action_ref=dispatch.action_ref,
                status=status,
                result=result,
                completed_at=datetime.now(UTC),
            ),
            correlation_id=message.envelope.correlation_id,
        )

    def execute(
        self, dispatch: ExecutionDispatch, action: dict[str, Any]
    ) -> tuple[ExecutionStatus, dict[str, Any]]:
        """Values reach the action by its environment, never as part of a command line."""
        config = dict(dispatch.config or {})
        texts = {f"ATTUNE_{k.upper()}": v for k, v in config.items() if isinstance(v, str)}
        process = subprocess.Popen(
            command_line(action["runtime"], action["entry"]),
            env={"PATH": os.environ["PATH"], "ATTUNE_CONFIG": json.dumps(config), **texts},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that what it starts ends with it
        )
        self.running[dispatch.execution_id] = process
        try:
            stdout, stderr = process.communicate(timeout=action.get("timeout_s", 60))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return ExecutionStatus.TIMEOUT, {"error": f"ran longer than {action['timeout_s']} s"}
        finally:
            del self.running[dispatch.execution_id]
        if dispatch.execution_id in self.cancelled:
            return ExecutionStatus.CANCELLED, {}
        done = process.returncode == 0
        result = {"stdout": stdout, "stderr": stderr, "exit_code": process.returncode}
        return (ExecutionStatus.COMPLETED if done else ExecutionStatus.FAILED), result

    def cancel(self, message: Message[ExecutionCancelRequested]) -> None:
        process = self.running.get(message.payload.execution_id)
        if process is not None:
            self.cancelled.add(message.payload.execution_id)
            os.killpg(process.pid, signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs actions.")
    parser.add_argument("--id", type=int, required=True)
    parser.add_argument("--actions", default=str(Path(__file__).with_name("rules.yaml")))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker    %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)

    actions = yaml.safe_load(Path(options.actions).read_text(encoding="utf-8"))["actions"]
    service = Service("worker", family="worker", worker_id=options.id, wait_s=30)
    service.run_beside(Worker(service, options.id, actions))
    service.run()


if __name__ == "__main__":
    main()

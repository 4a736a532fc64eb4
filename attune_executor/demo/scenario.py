"""The steps of the demonstration: sensor, executor, workers and notifier on a private node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import uuid4

from attune_executor import store
from attune_executor.demo.live_view import LiveView, Tally
from attune_executor.migrations import migrate
from attune_executor.tables import messages
from attune_mq import AttuneError, Envelope, Publisher, expand, load_topology, setup_infrastructure
from attune_mq.broker import EmbeddedBroker, QueueInspector
from attune_mq.transactional import Inbox, create_database_engine, reading

LIMIT_S = 90.0
"""A demonstration that takes longer has failed."""
DISPATCH_TTL = "5s"
"""How long a dispatch waits for its worker, here; five minutes otherwise."""
KILLED = "worker-2"
STOP_WITHIN_S = 10.0


class DemoFailed(AttuneError):
    """An expected step did not happen in time."""


def run_demo(*, enforcements: int, url: str | None, as_json: bool) -> int:
    """Runs it, prints the summary, and returns the exit code.

    Raises :class:`DemoFailed` with the end of the log of the process concerned.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        view = LiveView(enforcements)
        view.start()
        stack.callback(view.live.stop)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attune-demo-")))
        if url is None:
            view.log("starting a private RabbitMQ node")
            url = stack.enter_context(EmbeddedBroker()).url
        tally = _Demo(stack, folder, url, view).play(enforcements)
    seconds = time.monotonic() - began
    text = json.dumps(tally.as_json(seconds)) if as_json else tally.summary(seconds)
    sys.stdout.write(f"{text}\n")
    return 0


class _Demo:
    def __init__(self, stack: ExitStack, folder: Path, url: str, view: LiveView) -> None:
        self._url = url
        self._view = view
        self._deadline = time.monotonic() + LIMIT_S
        database_url = f"sqlite:///{folder / 'attune.db'}"
        environment = {
            "ATTUNE_MQ_URL": url,
            "ATTUNE_DATABASE_URL": database_url,
            "ATTUNE_RULES": str(_examples_folder() / "rules.yaml"),
            "ATTUNE_SCHEDULING_DELAY_S": "0.5",
            "ATTUNE_HEALTH_PORT": "0",  # the default one may be in use
            "ATTUNE_DISPATCH_TTL": DISPATCH_TTL,
            "ATTUNE_DISPATCH_GRACE_S": "2",
            "ATTUNE_WORKER_ABSENCE_S": "2",
        }
        self._engine = create_database_engine(database_url)
        migrate(self._engine)
        stack.callback(self._engine.dispose)
        self._topology = load_topology()
        setup_infrastructure(self._topology, url)
        self._processes = _Processes(folder, environment)
        stack.callback(self._processes.stop)
        self._inspector = QueueInspector(url)
        stack.callback(self._inspector.close)

    def play(self, wanted: int) -> Tally:
        view, processes = self._view, self._processes
        view.log("starting the executor, two workers and the notifier")
        processes.start("executor", "-m", "attune_executor", "run")
        processes.example("notifier", "notifier.py")
        processes.example("worker-1", "worker.py", "--id", "1")
        processes.example(KILLED, "worker.py", "--id", "2")
        self._until(
            "both workers are registered", lambda tally: sum(tally.by_consumer.values()) >= 2
        )
        view.log(f"the sensor publishes {wanted} enforcements")
        processes.example("sensor", "sensor.py", "--count", str(wanted))
        self._publish_poison()
        view.log("a poison message is published: an enforcement that lacks all its fields")
        self._until("a third is finished", lambda tally: tally.finished >= wanted // 3)
        processes.kill(KILLED)
        view.log(f"{KILLED} is killed; its dispatches expire ({DISPATCH_TTL}) and fail")
        return self._until(
            "all is finished",
            lambda tally: (
                tally.enforcements == tally.finished == tally.notifications == wanted
                and tally.dead_letters == 1
            ),
        )

    def _publish_poison(self) -> None:
        message_id = str(uuid4())
        poison = Envelope(
            message_id=message_id,
            correlation_id=message_id,
            message_type="EnforcementCreated",
            timestamp=datetime.now(UTC),
            payload={"nonsense": True},
        )
        with Publisher(self._topology, self._url, source_service="sensor") as publisher:
            publisher.publish(poison)

    def _until(self, what: str, holds: Callable[[Tally], bool]) -> Tally:
        while True:
            tally = self._count()
            self._view.show(tally)
            if holds(tally):
                return tally
            died = self._processes.died()
            if died is not None:
                raise DemoFailed(f"{died} ended unexpectedly:\n{self._processes.log(died)}")
            if time.monotonic() > self._deadline:
                log = self._processes.log("executor")
                raise DemoFailed(f"expected that {what} by now, found {tally}; executor:\n{log}")
            time.sleep(0.2)

    def _count(self) -> Tally:
        with reading(self._engine) as tx:
            executions = store.execution_counts(tx)
            enforcements = sum(store.enforcement_counts(tx).values())
            by_consumer = Inbox(messages.inbox).counts_by_consumer(tx)
        queues = expand(self._topology).queues.values()
        dead_letters = sum(
            self._inspector.message_count(queue.name) or 0
            for queue in queues
            if queue.purpose == "dead_letter"
        )
        notifications = self._processes.lines("notifier")
        return Tally(enforcements, executions, notifications, dead_letters, by_consumer)


def _examples_folder() -> Path:
    """In a checkout beside the package, in an installation inside of it."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "examples"
    return packaged if packaged.is_dir() else package.parent / "examples"


class _Processes:
    """Children with a common environment, each with its log files."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._files: list[IO[bytes]] = []

    def start(self, name: str, *arguments: str) -> None:
        """Standard output goes to ``name.out``, errors to ``name.log``."""
        self._children[name] = subprocess.Popen(
            [sys.executable, *arguments],
            env=self._environment,
            stdout=self._open(f"{name}.out"),
            stderr=self._open(f"{name}.log"),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the demonstration alone
        )

    def example(self, name: str, script: str, *arguments: str) -> None:
        self.start(name, str(_examples_folder() / script), *arguments)

    def kill(self, name: str) -> None:
        """By SIGKILL."""
        child = self._children.pop(name)
        child.kill()
        child.wait()

    def died(self) -> str | None:
        """The name of a child that ended with an error."""
        for name, child in self._children.items():
            if child.poll():
                return name
        return None

    def lines(self, name: str) -> int:
        """How many lines a child has printed."""
        return (self._folder / f"{name}.out").read_bytes().count(b"\n")

    def log(self, name: str, last: int = 15) -> str:
        text = (self._folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-last:])

    def stop(self) -> None:
        """By SIGTERM, and by SIGKILL after :data:`STOP_WITHIN_S`."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        for child in self._children.values():
            try:
                child.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for file in self._files:
            file.close()

    def _open(self, name: str) -> IO[bytes]:
        file = (self._folder / name).open("wb")
        self._files.append(file)
        return file

"""The executor: from enforcements to finished executions, with inbox and outbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pika

from attune_mq import expand, instantiate, load_topology, setup_infrastructure
from benchmarks import postgresql
from benchmarks.results import Ratio, Section, interleave
from benchmarks.running import Run

AMOUNT = 600
TIMEOUT_S = 120.0
ROOT = Path(__file__).parents[2]
RULES = ROOT / "examples" / "rules.yaml"
SEVERAL = 3


def measure(run: Run) -> list[Section]:
    section = Section("executing", "Enforcements to finished executions", "executions/s")
    processor = Section("executing-processor", "Processor time of the executors", "ms an execution")
    with ExitStack() as stack:
        databases = {"SQLite": partial(_sqlite, run)}
        folder = postgresql.programs()
        if folder is None:
            section.notes.append("PostgreSQL is not installed here")
        else:
            url = stack.enter_context(postgresql.server(folder))
            databases["PostgreSQL"] = partial(_postgresql, url)
        measured: dict[str, Callable[[], float]] = {}

        def finish(
            name: str, processes: int, database: Callable[[], str], checkout: Path | None
        ) -> float:
            done = _finish(run, database, processes, checkout)
            processor.add(name, done.processor_ms)
            return done.per_s

        for kind, database in databases.items():
            for processes in (1, SEVERAL):
                ours = f"attune, {kind}, {processes} process{'es' * (processes > 1)}"
                measured[ours] = partial(finish, ours, processes, database, None)
                if run.first is not None:
                    theirs = ours.replace("attune", "first version")
                    measured[theirs] = partial(finish, theirs, processes, database, run.first)
                    section.ratios.append(Ratio(ours, theirs, at_least=2.0))
                    processor.ratios.append(Ratio(ours, theirs, at_most=0.5))
        interleave(section, max(1, run.repeats - 1), measured)
    return [section, processor]


def _sqlite(run: Run) -> str:
    return f"sqlite:///{run.folder / uuid4().hex}.db"


def _postgresql(url: str) -> str:
    import psycopg

    name = f"bench_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return url.replace("/postgres?", f"/{name}?")


class _Done(NamedTuple):
    """``per_s``: executions, from the first enforcement to the last notification.
    ``processor_ms``: of all executors, for one of them."""

    per_s: float
    processor_ms: float


def _finish(run: Run, database: Callable[[], str], processes: int, checkout: Path | None) -> _Done:
    amount = run.amount(AMOUNT)
    with run.node.fresh_vhost() as url, ExitStack() as stack:
        topology = load_topology()
        setup_infrastructure(topology, url)
        setup_infrastructure(instantiate(topology, "worker", worker_id=1), url)
        database_url = database()
        running = [
            stack.enter_context(executor(environment(url, database_url, number), checkout or ROOT))
            for number in range(processes)
        ]
        surroundings = _Surroundings(url)
        surroundings.wait_until_ready()
        before_s = _processor_s(running)
        seconds = surroundings.drive(amount)
        return _Done(amount / seconds, (_processor_s(running) - before_s) / amount * 1_000)


def _processor_s(running: list[subprocess.Popen[bytes]]) -> float:
    """Of all of them so far, as Linux tells it; elsewhere nothing."""
    ticks = 0
    for process in running:
        stat = Path(f"/proc/{process.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def environment(url: str, database_url: str, number: int) -> dict[str, str]:
    return {
        **os.environ,
        "ATTUNE_MQ_URL": url,
        "ATTUNE_DATABASE_URL": database_url,
        "ATTUNE_RULES": str(RULES),
        "ATTUNE_INSTANCE": f"bench{number}",
        "ATTUNE_HEALTH_PORT": "0",
    }


@contextmanager
def executor(environment: dict[str, str], checkout: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Of the checkout, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "attune_executor", "run"],
        env=environment,
        cwd=checkout,  # Python looks for modules there first, before any PYTHONPATH
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


class _Surroundings:
    """Sensor, worker and notifier in one, by pika alone, so that they are the same for every
    version. The worker is done at once."""

    def __init__(self, url: str) -> None:
        topology = expand(load_topology())
        self._exchange = topology.exchanges["executions"].name
        self._key = "execution"
        self._notifications = topology.queues["notifications"].name
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.basic_qos(prefetch_count=200)
        self._channel.basic_consume("worker.1.executions", self._on_dispatch)
        self._channel.basic_consume(self._notifications, self._on_notification)
        self._notified = 0

    def wait_until_ready(self) -> None:
        """The executor is up, and knows the worker."""
        self._say(
            "WorkerRegistered",
            worker_id=1,
            name="worker-1",
            runtimes=["shell", "python"],
            registered_at=_now(),
        )
        self._enforce(0)
        self._wait_for(1)

    def drive(self, amount: int) -> float:
        """The seconds from the first enforcement to the last notification."""
        began = time.monotonic()
        for number in range(1, amount + 1):
            self._enforce(number)
        self._wait_for(amount + 1)
        seconds = time.monotonic() - began
        self._connection.close()
        return seconds

    def _enforce(self, number: int) -> None:
        self._say(
            "EnforcementCreated",
            enforcement_id=number,
            rule_ref="demo.greet",
            trigger_ref="bench",
            payload={"host": "db1.example.org"},
        )

    def _wait_for(self, notified: int) -> None:
        give_up_at = time.monotonic() + TIMEOUT_S
        while self._notified < notified:
            self._connection.process_data_events(time_limit=1)
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"{self._notified} of {notified} executions were finished")

    def _on_dispatch(self, channel: Any, method: Any, _: object, body: bytes) -> None:
        dispatch = json.loads(body)["payload"]
        self._say(
            "ExecutionCompleted",
            execution_id=dispatch["execution_id"],
            action_id=1,
            action_ref=dispatch["action_ref"],
            status="completed",
            result={"exit_code": 0},
            completed_at=_now(),
        )
        channel.basic_ack(method.delivery_tag)

    def _on_notification(self, channel: Any, method: Any, _: object, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        self._notified += 1

    def _say(self, message_type: str, **payload: Any) -> None:
        envelope = {
            "message_id": str(uuid4()),
            "message_type": message_type,
            "timestamp": _now(),
            "payload": payload,
        }
        properties = pika.BasicProperties(delivery_mode=2)
        body = json.dumps(envelope).encode()
        self._channel.basic_publish(self._exchange, self._key, body, properties)


def _now() -> str:
    return datetime.now(UTC).isoformat()

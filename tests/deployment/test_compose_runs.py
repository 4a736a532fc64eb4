"""The compose file's own services, as processes here: their commands, variables and files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from attune_mq import Publisher, load_topology
from attune_mq.health import ask_health
from tests.deployment.files import COMPOSE, ROOT, compose_executors, compose_services
from tests.deployment.pods import free_port
from tests.executor.harness import enforcement
from tests.waiting import wait_until

DEADLINE_S = 60


class Addresses:
    """What compose fills in: passwords from its .env, names of hosts, files that it mounts."""

    def __init__(self, broker_url: str, database_url: str, volumes: list[str]) -> None:
        self._broker = urlsplit(broker_url)
        self._database_url = database_url
        mounts = [volume.split(":")[:2] for volume in volumes]
        self._files = {there: str((COMPOSE.parent / here).resolve()) for here, there in mounts}

    def here(self, value: str) -> str:
        if value.startswith("amqp://attune@broker:5672/"):
            at = self._broker
            return f"amqp://{at.username}@{at.hostname}:{at.port}{at.path}"
        if value.startswith("postgresql://") and value.endswith("@database/attune"):
            return self._database_url
        with_passwords = re.sub(r"\$\{RABBITMQ_PASSWORD:[^}]*\}", "guest", value)
        return self._files.get(value, with_passwords)


@contextmanager
def service(name: str, program: list[str], folder: Path, urls: tuple[str, str]) -> Iterator[int]:
    """The service while the context lasts: the port of its health, if it has one."""
    described = compose_services()[name]
    addresses = Addresses(*urls, described["volumes"])
    port = free_port()
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *program, *map(addresses.here, described.get("command", ["run"]))],
            env={
                "PATH": os.environ["PATH"],
                **{key: addresses.here(value) for key, value in described["environment"].items()},
                "ATTUNE_HEALTH_PORT": str(port),
            },
            cwd=folder,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE_S)
    assert code == 0, (folder / f"{name}.log").read_text()


def test_executors_and_worker_of_the_compose_file_finish_an_enforcement(
    tmp_path: Path, broker_url: str, postgresql_url: str
) -> None:
    urls = (broker_url, postgresql_url)
    with ExitStack() as stack:
        for name in compose_executors():
            program = ["-m", "attune_executor"]
            port = stack.enter_context(service(name, program, tmp_path, urls))
            address = f"http://127.0.0.1:{port}/readyz"
            wait_until(lambda address=address: ask_health(address).is_good, f"{name} is ready")  # type: ignore[misc]
        script = str(ROOT / "examples" / "worker.py")  # its place before it is packaged
        stack.enter_context(service("worker", [script], tmp_path, urls))
        with Publisher(load_topology(ROOT / "topology.yaml"), broker_url) as publisher:
            publisher.publish(enforcement(1))

        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            question = "SELECT status FROM executions"
            wait_until(
                lambda: connection.execute(question).fetchall() == [("completed",)],
                "the execution is completed",
            )

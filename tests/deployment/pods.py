"""An executor as the manifests start it: their arguments, variables and files, as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from attune_mq.health import ask_health
from tests.deployment.files import ROOT, container, container_environment, pod
from tests.executor.harness import RULES, eventually


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Volumes:
    """What the manifests mount, in a folder: topology and rules, and the two secrets."""

    def __init__(self, folder: Path, broker_url: str, database_url: str) -> None:
        self.url = urlsplit(broker_url)
        files, secret = folder / "files", folder / "secret"
        for one in (files, secret):
            one.mkdir()
        shipped = (ROOT / "topology.yaml").read_text(encoding="utf-8")
        (files / "topology.yaml").write_text(shipped, encoding="utf-8")
        (files / "rules.yaml").write_text(RULES, encoding="utf-8")
        (secret / "rabbitmq-password").write_text(f"{self.url.password}\n", encoding="utf-8")
        settings = yaml.safe_dump({"database_url": database_url})
        (secret / "executor.yaml").write_text(settings, encoding="utf-8")
        self.folder = folder

    def here(self, value: str) -> str:
        """A path of the container is one of the folder; the broker's address is the test's."""
        if value.startswith("amqp"):
            return f"amqp://{self.url.username}@{self.url.hostname}:{self.url.port}{self.url.path}"
        return value.replace("/etc/attune", str(self.folder))


class Pod:
    """``attune-executor`` as the container of the Deployment, with a name as its instance."""

    def __init__(self, name: str, volumes: Volumes) -> None:
        self.name = name
        self.log = volumes.folder / f"{name}.log"
        self._port = free_port()
        given = {key: volumes.here(value) for key, value in container_environment().items()}
        given |= {"ATTUNE_HEALTH_HOST": "127.0.0.1", "ATTUNE_HEALTH_PORT": str(self._port)}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "attune_executor", *map(volumes.here, container()["args"])],
                env={"PATH": os.environ["PATH"], "ATTUNE_INSTANCE": name, **given},
                cwd=ROOT,
                stderr=log,
            )

    def until_ready(self) -> None:
        """As the manifest's probe says."""
        path = container()["readinessProbe"]["httpGet"]["path"]
        url = f"http://127.0.0.1:{self._port}{path}"
        eventually(lambda: ask_health(url).is_good, 60)

    def delete(self) -> int:
        """As Kubernetes deletes a pod, except that one beyond its grace period is an error here.
        The exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(pod()["terminationGracePeriodSeconds"])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

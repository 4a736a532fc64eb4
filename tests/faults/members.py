"""A process of the suite: started, killed, told to stop, frozen; its clock can be set, and its way
to the broker be cut."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attune_mq.health import ask_health
from tests.faults.clock import clock_environment
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
STARTS_WITHIN_S = ENDS_WITHIN_S = 120.0
HEALTH_TIMEOUT_S = 5.0
READY = "Consumer started for queue"


class Member:
    """``arguments`` are those of Python. ``consumers``: with how many it is complete."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        broker_url: str,
        folder: Path,
        environment: Mapping[str, str],
        consumers: int,
    ) -> None:
        self.name = name
        self.proxy = Proxy(broker_url)
        self.consumers = consumers
        self.lives = 0
        self._arguments = list(arguments)
        self._folder = folder
        self._health_port = _free_port()
        self._clock = folder / f"{name}.clock"
        self._clock.write_text("+0\n")
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONUNBUFFERED": "1",
            "ATTUNE_MQ_URL": self.proxy.url,
            "ATTUNE_HEALTH_PORT": str(self._health_port),
            **environment,
            **clock_environment(self._clock),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None
        self.lives += 1
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> Path:
        """Of its present life."""
        return self._folder / f"{self.name}-{self.lives}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def has_consumed(self) -> bool:
        """Whether all of its consumers have begun, in its present life."""
        return self.log.read_text(errors="replace").count(READY) >= self.consumers

    def is_ready(self) -> bool:
        """What it says of itself over HTTP. No answer is none."""
        url = f"http://127.0.0.1:{self._health_port}/readyz"
        return ask_health(url, timeout_s=HEALTH_TIMEOUT_S).is_good

    def wait_until_consuming(self) -> None:
        wait_until(self.has_consumed, f"{self.name} consumes", deadline_s=STARTS_WITHIN_S)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def terminate(self) -> None:
        """It has to end by itself, with success; what it was at is finished."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} did not end after SIGTERM") from None
        assert code == 0, f"{self.name} ended with {code} after SIGTERM; see {self.log}"

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def set_clock(self, offset_s: int) -> None:
        self._clock.write_text(f"{offset_s:+d}\n")

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def close(self) -> None:
        self.kill()
        self.proxy.close()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _free_port() -> int:
    """Below those that the system gives to outgoing connections, which come and go while a process
    is away that listens there."""
    while True:
        port = random.randrange(15_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port

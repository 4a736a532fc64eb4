"""The owner's end of :mod:`attune_mq.broker.embedded_guard`: requests and answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attune_mq.broker import embedded_guard
from attune_mq.broker.embedded_node import complaint
from attune_mq.errors import BrokerNotStarted, BrokerUnavailable
from attune_mq.forking import OwnProcess

POLL_S = 0.03
GUARD_ENDS_S = 20.0
"""What the guard may take to end everything: more than the graces that it gives, together."""


class GuardedProcesses:
    """Processes by name, and a directory, that are gone when this process is gone.

    The directory is made in ``parent``. Raises ``BrokerUnavailable`` where the guard cannot do
    what it is asked for, or is gone itself.
    """

    def __init__(self, parent: Path) -> None:
        self._own_process = OwnProcess()
        self._own_process.begin()
        self._pids: list[int] = []
        program = [sys.executable, "-I", "-S", embedded_guard.__file__]
        self._guard = subprocess.Popen(
            [*program, str(os.getpid()), str(parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it would hold the owner's open for the seconds it lives on
            start_new_session=True,
        )
        self.directory = Path(str(self._answer()))

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a process in a session of its own; what it prints goes to ``{name}.log``.

        If there is one of that name already, it is killed first.
        """
        pid = self._ask(do="start", name=name, argv=argv, env=env)
        self._pids.append(int(str(pid)))

    def exit_code(self, name: str) -> int | None:
        """None while it runs; minus the number of the signal that ended it, as in subprocess."""
        code = self._ask(do="exit_code", name=name)
        return None if code is None else int(str(code))

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the whole process group. One that has ended is left alone."""
        self._ask(do="signal", name=name, number=int(number))

    def end(self, name: str, *, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after ``grace_s`` (0: at once). Returns when its group is gone."""
        self._ask(do="end", name=name, grace_s=grace_s)

    def wait_until(self, name: str, done: Callable[[], bool], timeout_s: float) -> None:
        """Poll until what a process was started for is done.

        Raises ``BrokerNotStarted``, with what it printed to say why, where it ends before, or
        takes longer than ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            exit_code = self.exit_code(name)
            if exit_code is None and time.monotonic() <= deadline:
                time.sleep(POLL_S)
                continue
            ended = f"ended with exit code {exit_code}"
            what = f"was not ready in {timeout_s} s" if exit_code is None else ended
            reason = f"the {name} of a private RabbitMQ node {what}"
            raise BrokerNotStarted(reason, complaint(self.output(name)))

    def output(self, name: str) -> str:
        """What it has printed so far."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        """End everything, remove the directory, and return when that is done."""
        if self._own_process.is_another:
            return  # a fork has a copy of this object, but the processes are not its own
        with suppress(BrokenPipeError), self._guard:  # leaving it closes the pipes and waits
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._guard.wait(GUARD_ENDS_S)
            self._guard.kill()
        if self.directory.exists():  # the guard was killed
            for pid in reversed(self._pids):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            shutil.rmtree(self.directory, ignore_errors=True)

    def _ask(self, **request: object) -> object:
        self._own_process.require("a private RabbitMQ node")
        assert self._guard.stdin is not None
        try:
            self._guard.stdin.write(json.dumps(request).encode() + b"\n")
            self._guard.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise BrokerUnavailable("the guard of a private RabbitMQ node has ended") from error
        return self._answer()

    def _answer(self) -> object:
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        if not line:
            raise BrokerUnavailable("the guard of a private RabbitMQ node has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise BrokerUnavailable(f"the guard of a private RabbitMQ node: {answer['error']}")
        value: object = answer["value"]
        return value

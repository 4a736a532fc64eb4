"""The guard of a private node: a process that outlives its owner just long enough to clean up.

A node must be gone when its owner is gone, and an owner that is killed with SIGKILL can do nothing
about it. So the owner starts this program first. It makes the directory, and is the parent of every
process in it. It takes requests on its standard input, one JSON object a line, and answers each
with one line. Once that pipe is closed, which the kernel does however the owner ends, it ends the
processes (SIGTERM, then SIGKILL to the whole process group), removes the directory and exits.
(``PR_SET_PDEATHSIG`` is Linux's alone, and fires when the *thread* ends that started the child.)

The guard has a session of its own, as have its processes: a Ctrl-C in the terminal reaches the
owner alone. A process that the owner forked holds a copy of the pipe and would keep it open, so the
guard also looks whether its parent is still the owner.

What is left behind: everything, where the guard itself gets SIGKILL and its owner does not live to
call ``stop()``; the directory, where all of them are killed at one moment.

The program is run by its path, without ``site`` and without this package, so that it is up in some
30 ms: it may import nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

OWNER_CHECK_S = 0.5
"""How often the guard looks whether its parent is still its owner."""

LAST_GRACE_S = 2.0
"""From SIGTERM to SIGKILL when all ends: what is on disk is thrown away in any case."""

GROUP_GONE_S = 2.0
"""How long a killed process group may take to vanish (a zombie that nobody reaps never does)."""


class GuardedProcess:
    """A process in a session of its own, and whatever it starts in its process group."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], directory: Path, output: str
    ) -> None:
        with (directory / output).open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                env=env,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._exit_code: int | None = None

    def exit_code(self) -> int | None:
        """None while it runs. Its group goes with it: its number is only ours while it is used."""
        if self._exit_code is None and self._process.poll() is not None:
            self._finish()
        return self._exit_code

    def signal(self, number: int) -> None:
        if self.exit_code() is None:
            os.killpg(self.pid, number)

    def end(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL for what is still there ``grace_s`` later (0: at once)."""
        if self.exit_code() is not None:
            return
        if grace_s > 0:
            self.signal(signal.SIGCONT)  # a process that is paused could not obey
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self._finish()

    def _finish(self) -> None:
        """Kill the group and wait until it is empty: its directory is the next thing to go."""
        deadline = time.monotonic() + GROUP_GONE_S
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            while time.monotonic() < deadline:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.poll()
                time.sleep(0.005)
        code = self._process.poll()
        self._exit_code = -signal.SIGKILL if code is None else code


class Guard:
    """The processes of one owner, by name, and the directory that they live in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: dict[str, GuardedProcess] = {}

    def answer(self, request: Mapping[str, Any]) -> int | None:
        """Do what the owner asks for. What cannot be done raises what says why."""
        match request:
            case {"do": "start", "name": name, "argv": argv, "env": env}:
                self._end(name, 0)
                process = GuardedProcess(argv, env, self._directory, f"{name}.log")
                self._processes[name] = process
                return process.pid
            case {"do": "exit_code", "name": name}:
                return self._processes[name].exit_code()
            case {"do": "signal", "name": name, "number": number}:
                self._processes[name].signal(number)
            case {"do": "end", "name": name, "grace_s": grace_s}:
                self._end(name, grace_s)
            case _:
                raise ValueError(f"not a request: {request}")
        return None

    def _end(self, name: str, grace_s: float) -> None:
        if name in self._processes:
            self._processes[name].end(grace_s)

    def end_all(self) -> None:
        """End every process, the last one first, then remove the directory."""
        for process in reversed(self._processes.values()):
            process.end(LAST_GRACE_S)
        deadline = time.monotonic() + GROUP_GONE_S
        while self._directory.exists() and time.monotonic() < deadline:
            shutil.rmtree(self._directory, ignore_errors=True)


def _requests(owner_pid: int, signals: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The owner's requests, until the pipe is closed, the owner is gone or a signal has come."""
    pending = b""
    while os.getppid() == owner_pid and not signals:
        if not select.select([sys.stdin], [], [], OWNER_CHECK_S)[0]:
            continue
        received = os.read(sys.stdin.fileno(), 65536)
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _answer(guard: Guard, request: Mapping[str, Any]) -> dict[str, object]:
    try:
        return {"value": guard.answer(request)}
    except (OSError, ValueError, KeyError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _say(**answer: object) -> None:
    os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


def main(owner_pid: int, parent_directory: str) -> None:
    """Serve the owner until it is gone; then leave no process and no file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals: list[int] = []  # noted: an exception could fall between a start and its record
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        directory = Path(tempfile.mkdtemp(prefix="attune-mq-", dir=parent_directory))
    except OSError as error:
        _say(error=f"cannot make a directory: {error}")
        return
    guard = Guard(directory)
    try:
        _say(value=str(directory))
        for request in _requests(owner_pid, signals):
            _say(**_answer(guard, request))
    except BrokenPipeError:
        pass  # the owner is gone and reads no answers: that is what the guard is for
    finally:
        guard.end_all()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

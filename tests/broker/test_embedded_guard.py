"""The guard of private nodes, tried with processes that are quicker to start than RabbitMQ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attune_mq.broker.embedded_processes import GuardedProcesses
from attune_mq.errors import BrokerUnavailable
from tests.process_leaks import processes_of, wait_until_gone
from tests.waiting import wait_until

OWNER = """
import os, sys, time
from pathlib import Path
from attune_mq.broker.embedded_processes import GuardedProcesses

processes = GuardedProcesses(Path(sys.argv[1]))
env = {"PATH": os.environ["PATH"], "HOME": str(processes.directory)}
processes.start("sleeper", ["sleep", "1000"], env)
fork = os.fork() if "forks" in sys.argv else None
if fork == 0:
    time.sleep(1000)
try:
    print(processes.directory, fork, flush=True)  # from here on it may be interrupted
    sys.stdin.read()
except KeyboardInterrupt:
    print("interrupted; exit code of the sleeper:", processes.exit_code("sleeper"), flush=True)
"""


class Owner:
    """A process that owns a sleeper, and whatever its script does besides."""

    def __init__(self, parent: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(parent), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        directory, fork = self.says().split()
        self.directory = Path(directory)
        self.fork_pid = None if fork == "None" else int(fork)

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[GuardedProcesses]:
    guarded = GuardedProcesses(tmp_path)
    yield guarded
    guarded.close()


def start(processes: GuardedProcesses, script: str) -> None:
    """Run a shell script under the guard that says when it is under way."""
    env = {"PATH": os.environ["PATH"], "HOME": str(processes.directory)}
    processes.start("shell", ["sh", "-c", script], env)
    wait_until(lambda: "under way" in processes.output("shell"), "the script is under way")


def guard_pid(processes: GuardedProcesses) -> int:
    start(processes, "echo $PPID under way; exec sleep 1000")
    return int(processes.output("shell").split()[0])


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["alone", "with its process group"])
def test_a_killed_owner_leaves_no_process_and_no_directory(
    tmp_path: Path, kill: Callable[[int, int], None]
) -> None:
    owner = Owner(tmp_path)
    assert processes_of(owner.directory)

    kill(owner.process.pid, signal.SIGKILL)
    owner.process.communicate()

    wait_until_gone(owner.directory)


def test_an_owner_that_ends_without_stopping_leaves_nothing(tmp_path: Path) -> None:
    owner = Owner(tmp_path)

    owner.process.communicate()  # closes its standard input, on which it waits

    wait_until_gone(owner.directory)


def test_a_fork_of_a_killed_owner_does_not_keep_its_processes_alive(tmp_path: Path) -> None:
    owner = Owner(tmp_path, "forks")
    assert owner.fork_pid is not None

    try:
        owner.process.kill()
        owner.process.wait()

        wait_until_gone(owner.directory)
    finally:
        os.kill(owner.fork_pid, signal.SIGKILL)
        owner.process.communicate()


def test_an_interrupt_from_the_terminal_reaches_the_owner_alone(tmp_path: Path) -> None:
    owner = Owner(tmp_path)

    os.killpg(owner.process.pid, signal.SIGINT)

    assert owner.says() == "interrupted; exit code of the sleeper: None\n"
    owner.process.communicate()
    wait_until_gone(owner.directory)


def test_a_fork_cannot_close_what_its_parent_owns(processes: GuardedProcesses) -> None:
    start(processes, "echo under way; exec sleep 1000")

    fork = os.fork()
    if fork == 0:
        try:
            processes.close()
        finally:
            os._exit(0)
    os.waitpid(fork, 0)

    assert processes.exit_code("shell") is None


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(
    processes: GuardedProcesses,
) -> None:
    start(processes, "trap '' TERM; sleep 1000 & echo under way; while :; do wait; done")

    processes.end("shell", grace_s=0.1)

    assert processes.exit_code("shell") == -signal.SIGKILL
    wait_until(lambda: not processes_of(processes.directory), "its child is gone")


def test_a_process_that_obeys_sigterm_says_how_it_ended(processes: GuardedProcesses) -> None:
    start(processes, "trap 'exit 7' TERM; echo under way; while :; do sleep 0.01; done")

    processes.end("shell", grace_s=30)

    assert processes.exit_code("shell") == 7


def test_a_paused_process_can_still_be_ended_in_order(processes: GuardedProcesses) -> None:
    start(processes, "trap 'exit 7' TERM; echo under way; while :; do sleep 0.01; done")
    processes.signal("shell", signal.SIGSTOP)

    processes.end("shell", grace_s=30)

    assert processes.exit_code("shell") == 7


def test_what_a_process_leaves_running_when_it_ends_is_ended_too(
    processes: GuardedProcesses,
) -> None:
    start(processes, "sleep 1000 & echo under way")

    wait_until(lambda: processes.exit_code("shell") == 0, "the script ends")

    wait_until(lambda: not processes_of(processes.directory), "its child is gone")


def test_closing_twice_is_closing_once(processes: GuardedProcesses) -> None:
    processes.close()
    processes.close()

    assert not processes.directory.exists()


def test_an_owner_notices_that_its_guard_was_killed_and_cleans_up_itself(
    processes: GuardedProcesses,
) -> None:
    os.kill(guard_pid(processes), signal.SIGKILL)

    with pytest.raises(BrokerUnavailable, match="guard"):
        processes.exit_code("shell")
    processes.close()

    wait_until_gone(processes.directory)


def test_a_guard_that_gets_sigterm_cleans_up(processes: GuardedProcesses) -> None:
    os.kill(guard_pid(processes), signal.SIGTERM)

    wait_until_gone(processes.directory)


def test_a_program_that_is_not_there_is_named(processes: GuardedProcesses) -> None:
    with pytest.raises(BrokerUnavailable, match="no-such-program"):
        processes.start("nothing", ["/no-such-program"], {})


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="not-there"):
        GuardedProcesses(tmp_path / "not-there")

"""Programs that publish while something strikes their own process. Each writes down what it was
told of every message, and ends by itself.

    python -m tests.faults.publisher_programs signals URL JOURNAL SECONDS SEED
    python -m tests.faults.publisher_programs forks URL JOURNAL SECONDS SEED
    python -m tests.faults.publisher_programs slow-link URL JOURNAL SECONDS SEED
"""

from __future__ import annotations

import itertools
import logging
import math
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from attune_mq import MalformedMessage, Publisher
from tests.faults.journal import Journal
from tests.faults.receipts import Said
from tests.faults.sending import Sender, topology

CONFIRM_WITHIN_S = 20.0
WAITS_AT_MOST_S = 10.0
"""Of a thread that is not interrupted: it learns before its deadline that a connection is lost."""
WORKS_AGAIN_WITHIN_S = 30.0
STUCK_AFTER_S = 60.0
LIFE_S = 4.0
"""Of one publisher: the first message of many is to be interrupted."""
SHORTEST_DELAY_S, LONGEST_DELAY_S = 10e-6, 5e-3
BATCH = 20
FORK_EVERY_S = 0.3
MOST_CHILDREN = 3
NUMBERS_OF_A_PROCESS = 1_000_000
CHILD_ENDS_WITHIN_S = 30
MESSAGES_OF_A_CHILD = 10
SLOW_CONFIRM_WITHIN_S = 180.0
LARGE_BYTES = (9_000_000, 2_000_000, 5_000_000)
"""At some hundred kB/s the first takes longer than a connection may be silent."""
AS_MALFORMED = "an exception inside publish that came out as MalformedMessage"
SIGNAL, FORK, LARGE = "an exception inside publish", "a fork", "a large message on a slow link"


class Interrupted(BaseException):
    """What no ``except Exception`` keeps."""


class Expired(Exception):
    """As the decorators raise it that give a function a time limit by SIGALRM."""


class Alarm:
    """Raises in the main thread, once, a moment after it was set.

    An ``Exception`` that it raises while a payload's own code runs (a serializer, a validator)
    cannot be told from one of that code: it may come out as ``MalformedMessage``. Nothing is sent
    then. All else comes out as what it is.
    """

    errors: tuple[type[BaseException], ...] = (Interrupted, Expired, KeyboardInterrupt)

    def __init__(self, rng: random.Random) -> None:
        self.is_set = False
        self._last: type[BaseException] | None = None
        self._faults: list[str] = []
        self._rng = rng
        signal.signal(signal.SIGALRM, self._strike)

    def set(self) -> None:
        """Small delays are as frequent as great ones, since a publish takes from 0.2 to 5 ms."""
        delay_s = math.exp(self._rng.uniform(math.log(SHORTEST_DELAY_S), math.log(LONGEST_DELAY_S)))
        self._last = None
        self.is_set = True
        signal.setitimer(signal.ITIMER_REAL, delay_s)

    def excuses(self, error: Exception) -> bool:
        is_mine = threading.current_thread() is threading.main_thread()
        if not (is_mine and self._last is Expired and isinstance(error, MalformedMessage)):
            return False
        self._faults.append(AS_MALFORMED)
        return True

    def write_down(self, journal: Journal) -> None:
        """How often it has raised since."""
        for kind in self._faults:
            journal.fault(kind)
        self._faults.clear()

    def _strike(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_set:
            self.is_set = False
            self._faults.append(SIGNAL)
            self._last = self._rng.choice(self.errors)
            raise self._last


def signals(sender: Sender, journal: Journal, seconds: float, rng: random.Random) -> None:
    """One publisher after the other. The main thread publishes under the alarm; the others do so
    without, half of it to a queue that is full most of the time."""
    until_s = time.monotonic() + seconds
    alarm = Alarm(rng)
    sender.interruptions = alarm.errors
    sender.is_excused = alarm.excuses
    while time.monotonic() < until_s:
        with _publisher(sender, CONFIRM_WITHIN_S):
            if rng.random() < 0.5:
                _interrupt(sender, alarm, rng)  # its first publish, which connects
            with _threads(
                4, lambda one: _publish_any(sender, journal, random.Random(one)), journal
            ):
                life_ends_s = time.monotonic() + LIFE_S
                while time.monotonic() < life_ends_s:
                    _interrupt(sender, alarm, rng)
                    time.sleep(rng.uniform(0.0, 0.01))
            _works_again(sender, journal)
        alarm.write_down(journal)


def _interrupt(sender: Sender, alarm: Alarm, rng: random.Random) -> None:
    numbers = sender.some(rng.choice((1, 1, BATCH)), rng)
    try:
        try:
            alarm.set()
            outcome = sender.publish(numbers)
        finally:
            alarm.is_set = False
    except alarm.errors:
        outcome = dict.fromkeys(numbers, Said.UNKNOWN)
    sender.write_down(outcome)


def forks(sender: Sender, journal: Journal, seconds: float, rng: random.Random) -> None:
    """Children publish with what they have inherited, and the parent goes on. They may be told
    that this cannot be; none may disturb the parent."""
    until_s = time.monotonic() + seconds
    children = Children(sender, journal)
    with _publisher(sender, CONFIRM_WITHIN_S):
        with _threads(2, lambda one: _publish_any(sender, journal, random.Random(one)), journal):
            while time.monotonic() < until_s:
                sender.write_down(sender.publish(sender.some(5, rng)))
                children.fork(rng.choice(children.ways), closes=rng.random() < 0.3)
                time.sleep(FORK_EVERY_S)
            children.wait_for_all()
        _works_again(sender, journal)


class Children:
    """Each ends itself by SIGALRM when it hangs."""

    def __init__(self, sender: Sender, journal: Journal) -> None:
        self._sender = sender
        self._journal = journal
        self._count = 0
        self._waits: list[Callable[[], int]] = []
        self.ways: tuple[Callable[[Callable[[], None]], Callable[[], int]], ...] = (
            _forked_by_os,
            _forked_by_multiprocessing,
        )

    def fork(self, way: Callable[[Callable[[], None]], Callable[[], int]], *, closes: bool) -> None:
        if len(self._waits) >= MOST_CHILDREN:
            self._wait()
        self._count += 1
        self._journal.fault(FORK)
        first = self._count * NUMBERS_OF_A_PROCESS
        self._waits.append(way(lambda: self._live(first, closes=closes)))

    def wait_for_all(self) -> None:
        while self._waits:
            self._wait()

    def _wait(self) -> None:
        code = self._waits.pop(0)()
        if code != 0:
            self._journal.problem(f"a forked child that publishes ended with {code}")

    def _live(self, first: int, *, closes: bool) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_ENDS_WITHIN_S)
        for number in range(first, first + MESSAGES_OF_A_CHILD):
            self._sender.write_down(self._sender.publish([number]))
        if closes and self._sender.publisher is not None:
            self._sender.publisher.close()


def _forked_by_os(live: Callable[[], None]) -> Callable[[], int]:
    pid = os.fork()
    if pid == 0:
        try:
            live()
        except BaseException:  # nothing of the parent's may run in the child
            logging.exception("A forked child failed")
            os._exit(1)
        os._exit(0)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _forked_by_multiprocessing(live: Callable[[], None]) -> Callable[[], int]:
    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()

    def wait() -> int:
        process.join()
        return process.exitcode or 0

    return wait


def slow_link(sender: Sender, journal: Journal, seconds: float, _rng: random.Random) -> None:
    """Messages of some MB, and small ones of another thread beside them. Each has time enough."""
    until_s = time.monotonic() + seconds

    def trickle() -> None:
        sender.write_down(sender.publish([next(sender.numbers) * 2]))
        time.sleep(0.1)

    with (
        _publisher(sender, SLOW_CONFIRM_WITHIN_S),
        _threads(1, lambda _one: trickle, journal),
    ):
        for size_bytes in itertools.cycle(LARGE_BYTES):
            journal.fault(LARGE)
            began_s = time.monotonic()
            number = next(sender.numbers) * 2
            said = sender.publish([number], size_bytes=size_bytes)
            sender.write_down(said)
            if said[number] is not Said.RECEIPT:
                took_s = time.monotonic() - began_s
                journal.problem(f"{size_bytes:,} bytes were {said[number]} after {took_s:.0f} s")
            if time.monotonic() > until_s:
                break


@contextmanager
def _publisher(sender: Sender, timeout_s: float) -> Iterator[None]:
    with Publisher(
        topology(), sender.url, source_service="tests", timeout_s=timeout_s
    ) as publisher:
        sender.publisher = publisher
        yield


def _publish_any(sender: Sender, journal: Journal, rng: random.Random) -> Callable[[], None]:
    def publish() -> None:
        began_s = time.monotonic()
        sender.write_down(sender.publish(sender.some(rng.choice((1, 1, 1, BATCH)), rng)))
        if time.monotonic() - began_s > WAITS_AT_MOST_S:
            journal.problem(f"publish took longer than {WAITS_AT_MOST_S:g} s in another thread")

    return publish


@contextmanager
def _threads(
    count: int, work_of: Callable[[int], Callable[[], None]], journal: Journal
) -> Iterator[None]:
    """Each does its work again and again while the context lasts."""
    stopping = threading.Event()

    def run(work: Callable[[], None]) -> None:
        while not stopping.is_set():
            work()

    threads = [
        threading.Thread(target=run, args=(work_of(one),), daemon=True) for one in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        ends_s = time.monotonic() + STUCK_AFTER_S
        for thread in threads:
            thread.join(max(0.0, ends_s - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            journal.problem(f"a thread has been in publish for {STUCK_AFTER_S:g} s")


def _works_again(sender: Sender, journal: Journal) -> None:
    until_s = time.monotonic() + WORKS_AGAIN_WITHIN_S
    while time.monotonic() < until_s:
        number = next(sender.numbers) * 2
        said = sender.publish([number])
        sender.write_down(said)
        if said[number] is Said.RECEIPT:
            return
    journal.problem(f"no message was confirmed within {WORKS_AGAIN_WITHIN_S:g} s after all that")


PROGRAMS: dict[str, Callable[[Sender, Journal, float, random.Random], None]] = {
    "signals": signals,
    "forks": forks,
    "slow-link": slow_link,
}


def main(name: str, url: str, journal_file: str, seconds: str, seed: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    journal = Journal(Path(journal_file))
    PROGRAMS[name](Sender(url, journal), journal, float(seconds), random.Random(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])

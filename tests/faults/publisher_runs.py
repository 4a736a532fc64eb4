"""Runs of the programs that publish: rounds, each a process on a virtual host of its own, whose
queues are emptied all the while; then what it was told is held against what came out of them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attune_mq import setup_infrastructure
from attune_mq.broker import EmbeddedBroker
from tests.children import handed_on
from tests.faults.emptying import Emptying
from tests.faults.journal import read_journal
from tests.faults.members import ROOT
from tests.faults.receipts import ReceiptAccount
from tests.faults.run import Verdict
from tests.faults.sending import FULL, OPEN, queue_of, topology
from tests.messaging.proxy import Proxy

PUBLISHERS = {
    "publisher and signals": "signals",
    "publisher and forks": "forks",
    "publisher on a slow link": "slow-link",
}
"""By the names that the report has."""
ROUND_S = 20.0
ENDS_WITHIN_S = 240.0
"""After its time: what the slowest message takes that is still on its way."""
SLOW_BYTES_PER_S = 500_000
LONGEST_BETWEEN_CUTS_S = 5.0
CUT = "connections are cut"
"""By the name that the fault has everywhere."""


def publishing(
    broker: EmbeddedBroker, folder: Path, seed: str, seconds: float, *, program: str
) -> Verdict:
    """One round after the other, until ``seconds`` are over."""
    return Rounds(program, broker, folder, random.Random(seed)).run(seconds)


class Rounds:
    """Of one program."""

    def __init__(
        self, program: str, broker: EmbeddedBroker, folder: Path, rng: random.Random
    ) -> None:
        self._program = program
        self._is_slow = program == "slow-link"
        self._broker = broker
        self._folder = folder
        self._rng = rng
        self.verdict = Verdict()

    def run(self, seconds: float) -> Verdict:
        began_s = time.monotonic()
        while not self.verdict.receipts or time.monotonic() - began_s < seconds:
            self._round(min(ROUND_S, seconds))
        self.verdict.lasted_s = time.monotonic() - began_s
        return self.verdict

    def _round(self, seconds: float) -> None:
        name = f"{self._program}-{len(self.verdict.receipts) // 2}"
        journal = self._folder / f"{name}.journal"
        with self._broker.fresh_vhost() as url:
            setup_infrastructure(topology(), url)
            with _proxy(url, is_slow=self._is_slow) as proxy, Emptying(url) as emptying:
                self._live(name, journal, proxy, seconds)
                emptying.finish()
        entries = read_journal(journal)
        self.verdict.faults += entries.faults
        self.verdict.left_over += [
            f"{name}: {count} times: {problem}"
            for problem, count in Counter(entries.problems).items()
        ]
        for queue in (OPEN, FULL):
            said = {
                number: one for number, one in entries.said.items() if queue_of(number) == queue
            }
            account = ReceiptAccount(f"{name}, {queue} queue", said, emptying.deliveries(queue))
            self.verdict.receipts.append(account)
            self.verdict.messages += len(account.receipts)

    def _live(self, name: str, journal: Path, proxy: Proxy, seconds: float) -> None:
        """Of the process. Meanwhile its connections are cut now and then, unless they are slow."""
        arguments = (self._program, proxy.url, journal, seconds, self._rng.getrandbits(32))
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.publisher_programs", *map(str, arguments)],
                cwd=ROOT,
                env=handed_on(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until_s = time.monotonic() + seconds + ENDS_WITHIN_S
        while process.poll() is None and time.monotonic() < until_s:
            if not self._ended(process, self._rng.uniform(0.5, LONGEST_BETWEEN_CUTS_S)):
                self._cut(proxy)
        self._end(name, process)

    def _cut(self, proxy: Proxy) -> None:
        if not self._is_slow:
            proxy.cut()
            self.verdict.faults[CUT] += 1

    def _end(self, name: str, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            self.verdict.left_over.append(f"{name}: it did not end by itself")
            process.kill()
        if (code := process.wait()) != 0:
            self.verdict.left_over.append(f"{name}: it ended with {code}")

    @staticmethod
    def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True


@contextmanager
def _proxy(url: str, *, is_slow: bool) -> Iterator[Proxy]:
    proxy = Proxy(url, slow=("to broker", SLOW_BYTES_PER_S) if is_slow else None)
    try:
        yield proxy
    finally:
        proxy.close()

"""Runs of a process with an outbox whose clock on the wall is set while rows wait: what was
committed has to go out in bounded time, whatever the clock says.

The program adds a row every now and then, and says of each that it is committed:

    python -m tests.faults.outbox_runs DATABASE_URL JOURNAL
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from attune_mq import Publisher, setup_infrastructure
from attune_mq.broker import EmbeddedBroker
from attune_mq.transactional import Outbox, OutboxRelay, create_database_engine
from tests.faults import effects
from tests.faults.accounts import Account
from tests.faults.emptying import Emptying
from tests.faults.journal import Journal, read_journal
from tests.faults.kinds import NOTICED_WITHIN_S
from tests.faults.members import Member
from tests.faults.receipts import Said
from tests.faults.run import Verdict
from tests.faults.scene import Recovery
from tests.faults.sending import OPEN, message_of, topology
from tests.faults.stores import Stores
from tests.waiting import wait_until

SET_BACK = "the clock is set back while rows wait in an outbox"
SET_FORWARD = "the clock is set forward while rows wait in an outbox"
OFFSETS_S = (-86_400, -7_200, -600, 0, 600, 7_200)
FAR_S = 2 * 86_400
"""Beyond all that a row could wait for: what comes then was late, and what does not is lost."""
ADD_EVERY_S = 0.02
LEASE_S = 15.0
OUT_WITHIN_S = 60.0
"""Four leases: a bound, not a claim about speed."""
BLOCKED_S = (0.5, 2.0)
POLL_S = 0.2


def setting_clocks(
    broker: EmbeddedBroker, folder: Path, seed: str, seconds: float, *, stores: Stores
) -> Verdict:
    """Again and again, until ``seconds`` are over."""
    rng, began_s = random.Random(seed), time.monotonic()
    with broker.fresh_vhost() as url:
        setup_infrastructure(topology(), url)
        with Emptying(url) as emptying:
            process = Process(url, stores.url("effects"), folder)
            run = ClockRun(broker, process, emptying)
            try:
                while not run.verdict.faults or time.monotonic() - began_s < seconds:
                    others = [one for one in OFFSETS_S if one != process.clock_s]
                    run.set_clock(rng.choice(others), rng.uniform(*BLOCKED_S))
                run.end()
            finally:
                process.close()
            emptying.finish()
            expected = frozenset(process.committed())
            account = Account("rows", expected, frozenset(), emptying.messages(OPEN))
    run.verdict.accounts.append(account)
    run.verdict.messages = len(expected)
    run.verdict.lasted_s = time.monotonic() - began_s
    return run.verdict


class Process:
    """Started. ``clock_s``: by how much its clock is ahead."""

    def __init__(self, url: str, database_url: str, folder: Path) -> None:
        self.clock_s = 0
        self._journal = folder / "outbox.journal"
        arguments = ("-m", "tests.faults.outbox_runs", database_url, str(self._journal))
        self._member = Member(
            "outbox", arguments, broker_url=url, folder=folder, environment={}, consumers=0
        )
        self._member.start()
        wait_until(lambda: bool(self.committed()), "the first row is committed")

    def committed(self) -> set[int]:
        return set(read_journal(self._journal).said)

    def set_clock(self, offset_s: int) -> None:
        """Returns when the process has noticed."""
        assert not self._member.has_ended(), f"it ended by itself: {self._member.log}"
        self.clock_s = offset_s
        self._member.set_clock(offset_s)
        threading.Event().wait(2 * NOTICED_WITHIN_S)

    def terminate(self) -> None:
        self._member.terminate()

    def close(self) -> None:
        self._member.close()


class ClockRun:
    def __init__(self, broker: EmbeddedBroker, process: Process, emptying: Emptying) -> None:
        self.verdict = Verdict()
        self._broker = broker
        self._process = process
        self._emptying = emptying

    def set_clock(self, offset_s: int, blocked_s: float) -> None:
        """While the broker stands still, so that rows wait: those before and those after it."""
        before_s = self._process.clock_s
        kind = SET_BACK if offset_s < before_s else SET_FORWARD
        self._broker.pause()
        threading.Event().wait(blocked_s)
        self._process.set_clock(offset_s)
        self._broker.resume()
        self.verdict.faults[kind] += 1
        moved_s = offset_s - before_s
        self._expect_all_out(f"the clock was set by {moved_s:+d} s", kind)

    def end(self) -> None:
        """Whatever is still there comes out, or is lost."""
        self._process.set_clock(FAR_S)
        self._waiting_after(OUT_WITHIN_S, self._process.committed())
        self._process.terminate()

    def _expect_all_out(self, after: str, kind: str) -> None:
        began_s, committed = time.monotonic(), self._process.committed()
        self._waiting_after(OUT_WITHIN_S, committed, but=len(committed - self._out()) - 1)
        moves_s = time.monotonic() - began_s
        late = self._waiting_after(OUT_WITHIN_S - moves_s, committed)
        self.verdict.recoveries[kind].append(Recovery(moves_s, time.monotonic() - began_s))
        if late:
            self.verdict.left_over.append(
                f"{len(late)} rows are not out {OUT_WITHIN_S:g} s after {after}"
            )

    def _waiting_after(self, within_s: float, committed: set[int], *, but: int = 0) -> set[int]:
        """Rows that are not out after that time; returns early when ``but`` so many of them are."""
        until_s = time.monotonic() + within_s
        while len(waiting := committed - self._out()) > max(0, but):
            if time.monotonic() > until_s:
                return waiting
            threading.Event().wait(POLL_S)
        return set()

    def _out(self) -> set[int]:
        return set(self._emptying.messages(OPEN))


def main(database_url: str, journal_file: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    engine = create_database_engine(database_url)
    effects.metadata.create_all(engine)
    outbox = Outbox(effects.messages.outbox, source_service="tests")
    journal = Journal(Path(journal_file))
    with Publisher(topology(), os.environ["ATTUNE_MQ_URL"], source_service="tests") as publisher:
        relay = OutboxRelay(engine, outbox, publisher, lease_s=LEASE_S)
        relay.start()
        for number in itertools.count(1):
            if stopping.wait(ADD_EVERY_S):
                break
            with engine.begin() as tx:
                outbox.add(tx, message_of(2 * number))
            journal.said(2 * number, Said.RECEIPT)
            relay.wake()
        relay.stop()
    engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])

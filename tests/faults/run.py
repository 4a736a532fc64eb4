"""One run: faults by a schedule while messages flow, then rest, then the accounts."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.accounts import Account
from tests.faults.kinds import inflict
from tests.faults.leaks import belongings_of
from tests.faults.receipts import ReceiptAccount
from tests.faults.scene import Recovery, Scene
from tests.faults.schedule import Planned

logger = logging.getLogger(__name__)


@dataclass
class Verdict:
    """What a run has shown. ``recoveries``: by kind of fault."""

    accounts: list[Account] = field(default_factory=list)
    receipts: list[ReceiptAccount] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[Recovery]] = field(default_factory=lambda: defaultdict(list))
    messages: int = 0
    """How many were confirmed, or committed."""
    sent_again: int = 0
    restarted: int = 0
    lasted_s: float = 0.0
    left_over: list[str] = field(default_factory=list)
    green: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is no problem, and has to be said."""

    def problems(self) -> list[str]:
        unbalanced = [line for account in self.accounts for line in account.problems()]
        unbalanced += [line for account in self.receipts for line in account.problems()]
        return unbalanced + self.left_over + self.green


def run(
    scene: Scene,
    planned: Iterable[Planned],
    *,
    until_s: float | None = None,
    restart_all: bool = True,
) -> Verdict:
    """Inflicts what is planned, until it ends or ``until_s`` seconds are over.

    ``restart_all``: at the end each process is told to stop and is started anew, which shows what
    it has left over."""
    verdict, began_at = Verdict(), time.monotonic()
    scene.recover()
    for one in planned:
        if until_s is not None and time.monotonic() - began_at > until_s:
            break
        scene.pass_by(one.after_s)
        logger.warning("%7.1f s: %s", time.monotonic() - began_at, one)
        inflict(scene, one)
        verdict.faults[one.kind] += 1
        if one.waits:
            verdict.recoveries[one.kind].append(scene.recover())
    scene.recover()
    scene.wait_until(scene.all_consume, "all consumers are there again, and no others")
    scene.wait_until(scene.all_ready, "all say that they are ready")
    if restart_all:
        verdict.left_over = what_is_left_over(scene)
    scene.settle()
    verdict.accounts = scene.balance()
    verdict.messages = len(scene.publisher.confirmed)
    verdict.sent_again = scene.publisher.sent_again
    verdict.green = scene.green
    verdict.restarted = scene.restarted.total()
    verdict.lasted_s = time.monotonic() - began_at
    return verdict


def what_is_left_over(scene: Scene) -> list[str]:
    """Threads and descriptors that a process has after the faults, and that the same process,
    started anew, does not need for the same work."""
    before = {member.name: belongings_of(member.pid) for member in scene.members}
    for member in scene.members:
        member.wait_until_consuming()
        member.terminate()
        member.start()
    for member in scene.members:
        member.wait_until_consuming()
    scene.recover()

    def too_many() -> list[str]:
        return [
            f"{member.name} had {kept}, and needs {needed}"
            for member in scene.members
            if not (kept := before[member.name]).fits(needed := belongings_of(member.pid))
        ]

    try:
        scene.wait_until(lambda: not too_many(), "they need as much", within_s=20)
    except AssertionError:
        return too_many()
    return []

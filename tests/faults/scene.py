"""A system to have faults in: a broker, databases, processes, and a publisher that numbers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from attune_mq.broker import EmbeddedBroker, ManagementClient
from attune_mq.message import decode
from tests.faults import effects
from tests.faults.accounts import Account
from tests.faults.members import Member
from tests.faults.numbers import GIVEN_UP_OF, is_given_up
from tests.faults.publishing import NumberedPublisher
from tests.faults.stores import Stores
from tests.messaging.bench import Bench
from tests.messaging.proxy import Proxy

MOST_WAITING = 50
RECOVERS_WITHIN_S = 240.0
RED_WITHIN_S = 30.0
POLL_S = 0.05


class Recovery(NamedTuple):
    """From the end of a fault. ``moves_s``: until anything has its effect again. ``recovered_s``:
    until a message that was sent after it has; so what had waited is worked off."""

    moves_s: float
    recovered_s: float


@dataclass
class Scene:
    """``kind``: of the effects that the accounts are about first. ``ingresses``: the queues that
    are deleted, of which the first is a classic one. ``number_of``: of a payload in the dead
    letter queue. ``accounts_of``: of the confirmed numbers and the dead ones with their reasons."""

    broker: EmbeddedBroker
    url: str
    stores: Stores
    members: list[Member]
    ingresses: list[str]
    dead_letter_queue: str
    kind: str
    number_of: Callable[[Any], int]
    accounts_of: Callable[[frozenset[int], dict[int, str]], list[Account]]
    publisher: NumberedPublisher
    proxy: Proxy
    engine: Engine
    restarted: Counter[str] = field(default_factory=Counter)
    """How often somebody could not start because of a fault."""
    green: list[str] = field(default_factory=list)
    """Who said to be ready though it could not be."""
    _progress: tuple[int, int] = (0, 0)
    _held: bool = False

    @property
    def vhost(self) -> str:
        return unquote(urlsplit(self.url).path[1:])

    @property
    def proxies(self) -> list[Proxy]:
        return [self.proxy, *(member.proxy for member in self.members)]

    def bench(self) -> Bench:
        return Bench(self.url)

    def progress(self) -> tuple[int, int]:
        """How many effects, and the highest number; the last known while the database is away."""
        with suppress(SQLAlchemyError):
            self._progress = effects.progress(self.engine, self.kind)
        return self._progress

    def has_room(self, begun: int) -> bool:
        given_up = begun // GIVEN_UP_OF
        return not self._held and begun - given_up - self.progress()[0] < MOST_WAITING

    def ask_broker(self, *arguments: str) -> None:
        """By rabbitmqctl, which takes its time on a busy machine."""
        self.broker.rabbitmqctl(*arguments, timeout_s=RECOVERS_WITHIN_S)

    def supervise(self) -> None:
        """Who could not start because of a fault is started again, as systemd does it. Nobody
        may end who had begun to consume."""
        for member in self.members:
            if member.has_ended():
                assert not member.has_consumed(), f"{member.name} ended by itself: {member.log}"
                member.kill()
                member.start()
                self.restarted[member.name] += 1

    def all_consume(self) -> bool:
        """Whether the broker knows all of their consumers. It forgets the dead ones when it
        notices, so there must be no more of them either."""
        listed = ManagementClient(self.broker.management_url or "").consumers(self.vhost)
        return len(listed) == sum(member.consumers for member in self.members)

    def await_red(self, fault: str, members: Iterable[Member]) -> None:
        """While a fault lasts: who cannot consume has to say so. How soon is for the tests of
        health to measure; here the machine is busy."""
        until = time.monotonic() + RED_WITHIN_S
        for member in members:
            while member.is_ready() and time.monotonic() < until:
                threading.Event().wait(POLL_S)
            if member.is_ready():
                self.green.append(f"{member.name} said to be ready while {fault}")

    def all_ready(self) -> bool:
        return all(member.is_ready() for member in self.members)

    def recover(self) -> Recovery:
        """Returns when a message that is sent from now on has had its effect."""
        began_at = time.monotonic()
        mark, effects_before = self.publisher.begun + 1, self.progress()[0]
        self.wait_until(lambda: self.progress()[0] > effects_before, "anything has its effect")
        moves_s = time.monotonic() - began_at
        self.wait_until(lambda: self.progress()[1] >= mark, f"number {mark} has its effect")
        return Recovery(moves_s, time.monotonic() - began_at)

    def wait_until(
        self, holds: Callable[[], bool], what: str, *, within_s: float = RECOVERS_WITHIN_S
    ) -> None:
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, f"{within_s:g} s in vain until {what}"
            self.supervise()
            threading.Event().wait(POLL_S)

    def pass_by(self, seconds: float) -> None:
        """Lets so much time go by."""
        threading.Event().wait(seconds)
        self.supervise()

    @contextmanager
    def drained(self) -> Iterator[None]:
        """Nothing is on its way while the context lasts: nothing new is sent."""
        self._held = True
        self._wait_until_all_is_done()
        yield
        self._held = False

    def settle(self) -> None:
        """Returns when all that is confirmed has its effect or is given up. Nothing new is sent."""
        self.publisher.finish(RECOVERS_WITHIN_S)
        self._wait_until_all_is_done()

    def _wait_until_all_is_done(self) -> None:
        bench = self.bench()

        def is_done() -> bool:
            begun = self.publisher.begun
            given_up = sum(map(is_given_up, range(1, begun + 1)))
            return (
                len(self.publisher.confirmed) == begun
                and self.progress()[0] >= begun - given_up
                and bench.depth(self.dead_letter_queue) >= given_up
            )

        self.wait_until(is_done, "all that was confirmed has had its effect")
        bench.close()

    def balance(self) -> list[Account]:
        return self.accounts_of(frozenset(self.publisher.confirmed), self._dead_letters())

    def _dead_letters(self) -> dict[int, str]:
        """By number, with the reason; they are taken out of their queue."""
        bench = self.bench()
        dead = bench.take_all(self.dead_letter_queue)
        bench.close()
        reasons = [str(letter.headers.get("x-attune-reason", "")) for letter in dead]
        numbers = [self.number_of(decode(letter.body).payload) for letter in dead]
        return dict(zip(numbers, reasons, strict=True))

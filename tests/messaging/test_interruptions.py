"""Commit or kill the connection: wherever a caller is interrupted, no other message gets its
confirm, and the next call works."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import pytest

from attune_mq.errors import NotConfirmed, PublishRefused
from attune_mq.message.envelope import Envelope
from attune_mq.message.outgoing import Receipt
from attune_mq.message.telemetry import Telemetry
from attune_mq.publishing.confirm_connection import ConfirmConnection
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.model import Topology
from tests.messaging.bench import Bench, request
from tests.messaging.interruptions import (
    FULL,
    LIBRARY,
    OPEN,
    Accounts,
    At,
    Interrupted,
    TimeLimit,
)

DEADLINE_S = 20.0
"""Long beyond what a reconnection takes, short of hanging: nobody is to wait for it."""


@pytest.fixture
def accounts(bench: Bench) -> Accounts:
    return Accounts(bench)


@pytest.fixture
def publisher(bench: Bench) -> Iterator[Publisher]:
    with Publisher(Accounts.topology, bench.url, timeout_s=DEADLINE_S) as publisher:
        yield publisher


def require_that_it_works(publisher: Publisher, accounts: Accounts) -> None:
    refused, receipt = accounts.publish(publisher, FULL, OPEN, timeout_s=DEADLINE_S)
    assert isinstance(refused, PublishRefused)
    assert isinstance(receipt, Receipt)


@pytest.mark.parametrize("how", ["publish", "publish_many"])
def test_a_caller_interrupted_at_any_line_shifts_no_confirm(
    publisher: Publisher, accounts: Accounts, how: str
) -> None:
    require_that_it_works(publisher, accounts)
    publish = {"publish": accounts.publish_one, "publish_many": accounts.publish_three}[how]

    for place in count(1):
        interrupted = At(place).call(lambda: publish(publisher, OPEN))
        require_that_it_works(publisher, accounts)
        if not interrupted:
            break

    assert place > 100
    assert publisher.unconfirmed_count == 0
    assert accounts.false_words() == []


@pytest.mark.parametrize("kind", [Interrupted, TimeLimit])
def test_whatever_interrupts_a_caller_reaches_it_and_shifts_no_confirm(
    publisher: Publisher, accounts: Accounts, kind: type[BaseException]
) -> None:
    """Also at the lines of the standard library's locks, some of which are written in Python."""
    require_that_it_works(publisher, accounts)

    for place in count(1):
        message = accounts.message(publisher, OPEN)
        interruption = At(place, within=(LIBRARY, str(threading.__file__)), kind=kind)
        interrupted = interruption.call(partial(publisher.send, [message]))
        assert interrupted == interruption.has_raised, place
        require_that_it_works(publisher, accounts)
        if not interrupted:
            break

    assert place > 60
    assert accounts.false_words() == []


def test_two_signals_at_once_are_one_interruption(
    publisher: Publisher, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is raised as the first begins to be seen to. A thread that was not forgotten then
    was told for ever that it published within ``publish``."""
    require_that_it_works(publisher, accounts)
    see_to_it, begun = ConfirmConnection._abort, []

    def begin_twice(*what: Any) -> None:
        begun.append(what)
        if len(begun) == 1:
            raise Interrupted
        see_to_it(*what)

    monkeypatch.setattr(ConfirmConnection, "_abort", begin_twice)
    message = accounts.message(publisher, OPEN)
    assert At(30).call(lambda: publisher.send([message]))

    require_that_it_works(publisher, accounts)
    assert len(begun) == 2
    assert accounts.false_words() == []


def test_a_first_call_interrupted_at_any_line_leaves_a_publisher_that_works(
    bench: Bench, accounts: Accounts
) -> None:
    """The thread of the connection is being made then."""
    for place in count(1):
        with Publisher(Accounts.topology, bench.url, timeout_s=DEADLINE_S) as publisher:
            interrupted = At(place).call(partial(accounts.publish_one, publisher, OPEN))
            require_that_it_works(publisher, accounts)
        if not interrupted:
            break

    assert place > 100
    assert accounts.false_words() == []
    assert not [one.name for one in threading.enumerate() if one.name.endswith("publisher")]


def test_others_wait_for_no_deadline_when_one_caller_is_interrupted(
    publisher: Publisher, accounts: Accounts
) -> None:
    """Each interruption comes while another thread publishes, at each line of what a call does."""
    require_that_it_works(publisher, accounts)
    outcomes: list[object] = []
    over = threading.Event()

    def keep_publishing() -> None:
        while not over.is_set():
            outcomes.extend(accounts.publish(publisher, OPEN, FULL, timeout_s=DEADLINE_S))

    others = [threading.Thread(target=keep_publishing) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for place in range(1, 200):
            At(place).call(lambda: accounts.publish_one(publisher, OPEN))
    finally:
        over.set()
        for other in others:
            other.join()

    late = [
        one for one in outcomes if isinstance(one, NotConfirmed) and "no confirm within" in str(one)
    ]
    assert late == []
    assert accounts.false_words() == []


class Alarm(BaseException):
    """As of a time limit that passes in the midst of a call."""


def interrupted_after(seconds: float, work: Callable[[], object]) -> bool:
    """Whether the alarm rang within ``work``."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        if is_armed:
            raise Alarm

    is_armed = True
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        work()
    except Alarm:
        return True
    finally:
        is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


def test_signals_within_publish_give_no_false_receipt_beside_other_threads(
    publisher: Publisher, accounts: Accounts
) -> None:
    require_that_it_works(publisher, accounts)
    over = threading.Event()

    def keep_publishing() -> None:
        while not over.is_set():
            accounts.publish(publisher, OPEN, FULL)

    others = [threading.Thread(target=keep_publishing) for _ in range(3)]
    for other in others:
        other.start()
    try:
        interruptions = sum(
            interrupted_after(
                1e-5 + number % 40 * 1e-5, lambda: accounts.publish_one(publisher, OPEN)
            )
            for number in range(200)
        )
    finally:
        over.set()
        for other in others:
            other.join()

    require_that_it_works(publisher, accounts)
    assert interruptions > 0
    assert accounts.false_words() == []


def test_a_signal_handler_that_publishes_within_publish_is_told_so_at_once(
    publisher: Publisher, accounts: Accounts
) -> None:
    require_that_it_works(publisher, accounts)
    nested: list[object] = []

    class Ringing(At):
        def _interrupt(self) -> None:
            nested.extend(accounts.publish(publisher, OPEN, timeout_s=DEADLINE_S))

    def publish() -> None:
        accounts.publish(publisher, OPEN)

    places = At(None)
    places.call(publish)
    for place in range(1, places.lines + 1):
        Ringing(place).call(publish)

    refused = [one for one in nested if isinstance(one, NotConfirmed)]
    assert refused
    assert all(not one.sent and "within publish" in str(one) for one in refused)
    assert accounts.false_words() == []


@pytest.mark.usefixtures("bench")
def test_telemetry_that_publishes_while_a_connection_opens_is_told_so_at_once(
    topology: Topology, bench: Bench
) -> None:
    outcomes: list[object] = []

    class Publishing(Telemetry):
        def connection_opened(self, name: str) -> None:
            outcomes.extend(publisher.send([message], timeout_s=DEADLINE_S))

    publisher = Publisher(topology, bench.url, telemetry=Publishing())
    with publisher:
        message = publisher.outgoing(Envelope.of(request(1)))
        publisher.publish(request(2))

    [outcome] = outcomes
    assert isinstance(outcome, NotConfirmed)
    assert "within publish" in str(outcome)

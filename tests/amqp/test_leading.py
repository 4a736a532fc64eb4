"""Leader and followers of the I/O loop: who leads, who is waked, and what an interrupted thread
leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from queue import SimpleQueue

import pytest

from attune_mq.amqp import IoLoop, io_loop
from attune_mq.errors import BrokerUnavailable
from tests.amqp.simulated import (
    HEARTBEAT,
    MemoryStream,
    SimulatedTime,
    User,
    is_free,
    loop_of,
    turn,
)
from tests.messaging.bench import WAIT_S, wait_for
from tests.messaging.interruptions import At, Interrupted
from tests.waiting import wait_until

TOO_LONG_S = 10 * WAIT_S
GIVEN_UP = BrokerUnavailable("the test has given it up")


@pytest.fixture
def _wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_loop, "TURN_S", TOO_LONG_S)


class Leader:
    """Another thread that leads until it is let go."""

    def __init__(self, loop: IoLoop, stream: MemoryStream) -> None:
        self._loop = loop
        self._is_done = False
        self._stream = stream
        waits_before = stream.waits
        self._thread = threading.Thread(target=self._lead, name="leader", daemon=True)
        self._thread.start()
        stream.wait_until_waited_on(waits_before + 1)

    def _lead(self) -> None:
        self._loop.drive_until(lambda: self._is_done, float("inf"), join=True)

    def let_go(self) -> None:
        self._is_done = True
        self._loop.wake()
        self.join()

    def leave_by_itself(self) -> None:
        """Since what it waits for has come."""
        self._is_done = True
        self._stream.say(HEARTBEAT)
        self.join()

    def join(self) -> None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


# Who leads.


def test_a_follower_leads_only_when_nobody_else_does(
    threaded: IoLoop, waiting: MemoryStream
) -> None:
    leader = Leader(threaded, waiting)
    assert not threaded.drive_until(lambda: False, float("inf"), join=False)

    leader.let_go()
    assert threaded.drive_until(lambda: True, float("inf"), join=False)


def test_who_joins_waits_for_its_turn(threaded: IoLoop, waiting: MemoryStream) -> None:
    leader = Leader(threaded, waiting)
    asked: SimpleQueue[bool] = SimpleQueue()
    led: SimpleQueue[bool] = SimpleQueue()

    def lead_next() -> None:
        asked.put(True)
        led.put(threaded.drive_until(lambda: True, float("inf"), join=True))

    next_one = threading.Thread(target=lead_next, daemon=True)
    next_one.start()
    asked.get(timeout=WAIT_S)
    assert led.empty()

    leader.let_go()
    assert led.get(timeout=WAIT_S)
    next_one.join(WAIT_S)


def test_another_thread_sends_while_the_leader_waits(
    threaded: IoLoop, waiting: MemoryStream
) -> None:
    leader = Leader(threaded, waiting)

    threaded.send(b"abc")

    assert waiting.sent == b"abc"
    leader.let_go()


@pytest.mark.usefixtures("_wait_without_end")
def test_the_leader_sends_the_rest_of_what_another_thread_sent_once_there_is_room(
    threaded: IoLoop, waiting: MemoryStream
) -> None:
    """It has waited for something to read alone."""
    leader = Leader(threaded, waiting)
    begun = waiting.waits
    waiting.room = 2
    threaded.send(b"abc")
    waiting.wait_until_waited_on(begun + 1)

    waiting.make_room()
    waiting.wait_until_waited_on(begun + 2)

    assert waiting.sent == b"abc"
    leader.let_go()


def test_the_connections_own_thread_leads_while_its_user_is_busy(
    threaded: IoLoop, waiting: MemoryStream, user: User
) -> None:
    user.is_busy = True
    with running(threaded) as own:
        waiting.wait_until_waited_on(3)
        assert user.threads == {own.name}


def test_the_connections_own_thread_does_what_is_due_though_its_user_is_not_busy(
    threaded: IoLoop, waiting: MemoryStream, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a heartbeat. It does not stay to wait."""
    monkeypatch.setattr(io_loop, "TURN_S", 0.01)
    with running(threaded) as own:
        waiting.wait_until_waited_on(3)
        assert user.threads == {own.name}


def test_the_connections_own_thread_has_whoever_leads_see_what_is_due(
    threaded: IoLoop, waiting: MemoryStream, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader may wait for half a second, and as long again."""
    monkeypatch.setattr(io_loop, "TURN_S", TOO_LONG_S)
    leader = Leader(threaded, waiting)
    begun = waiting.waits
    monkeypatch.setattr(io_loop, "TURN_S", 0.01)
    with running(threaded):
        waiting.wait_until_waited_on(begun + 1)
        assert user.threads == {"leader"}
        leader.let_go()


def test_it_ends_when_its_user_leaves(threaded: IoLoop) -> None:
    threaded.run(lambda: True)

    assert threaded.end is None


def test_what_the_user_raises_ends_the_connection_and_reaches_the_leader(
    loop: IoLoop, user: User
) -> None:
    user.on_tick = partial(throw, KeyError("a defect"))
    with pytest.raises(KeyError):
        turn(loop)

    assert isinstance(loop.end, BrokerUnavailable)


def test_what_its_own_turn_raises_is_raised_by_the_connections_own_thread(
    loop: IoLoop, user: User
) -> None:
    user.is_busy = True
    user.on_tick = partial(throw, KeyError("a defect"))

    with pytest.raises(KeyError):
        loop.run(lambda: False)


def test_what_a_followers_turn_raises_is_the_followers_alone(loop: IoLoop, user: User) -> None:
    user.on_tick = partial(throw, KeyError("a defect"))
    with pytest.raises(KeyError):
        turn(loop)

    loop.run(lambda: False)


def test_what_is_reported_for_it_is_raised_by_the_connections_own_thread(loop: IoLoop) -> None:
    loop.fail(KeyError("a defect of a worker"))

    with pytest.raises(KeyError):
        loop.run(lambda: False)
    assert isinstance(loop.end, BrokerUnavailable)


def throw(error: BaseException) -> None:
    raise error


@contextmanager
def running(loop: IoLoop) -> Iterator[threading.Thread]:
    """The connection's own thread, until the block is left."""
    left = threading.Event()
    thread = threading.Thread(target=lambda: loop.run(left.is_set), name="own", daemon=True)
    thread.start()
    yield thread
    left.set()
    loop.wake()
    thread.join(WAIT_S)
    assert not thread.is_alive()


# A leader that is interrupted.


def interrupting_places(stream: MemoryStream, user: User) -> dict[str, Callable[[], None]]:
    def interrupt() -> None:
        raise Interrupted

    return {
        "waits": lambda: setattr(stream, "on_wait", interrupt),
        "reads": lambda: setattr(stream, "on_receive", interrupt),
        "sends": lambda: setattr(stream, "on_send", interrupt),
        "asks what is due": lambda: setattr(user, "on_tick", interrupt),
        "looks at what came": lambda: setattr(user, "on_receive", interrupt),
    }


@pytest.mark.parametrize("place", interrupting_places(MemoryStream(), User()))
def test_a_leader_interrupted_while_it_does_anything_ends_the_connection(
    loop: IoLoop, stream: MemoryStream, user: User, place: str
) -> None:
    stream.room = 1
    loop.send(b"abc")
    stream.say(HEARTBEAT)
    interrupting_places(stream, user)[place]()
    stream.room = 100 if place == "sends" else 0

    with pytest.raises(Interrupted):
        turn(loop)

    assert isinstance(loop.end, BrokerUnavailable)
    loop.abort(GIVEN_UP)
    assert is_free(loop.lock)
    assert is_free(loop._leading)


def test_a_leader_interrupted_at_any_line_leaves_both_locks_free_once_it_gives_up() -> None:
    """Also between taking a lock and the block that releases it."""
    for place in count(1):
        time, user = SimulatedTime(), User()
        stream = MemoryStream(time)
        loop = loop_of(stream, time, user)
        stream.say(HEARTBEAT)
        stream.room = 1
        loop.send(b"abc")
        stream.room = 1

        is_interrupted = At(place, within=(io_loop.__file__,)).call(partial(turn, loop))
        loop.abort(GIVEN_UP)

        assert loop.end is not None
        assert is_free(loop.lock), place
        assert is_free(loop._leading), place
        sent = stream.sent
        stream.room = 100
        loop.send(b"def")
        assert stream.sent == sent
        if not is_interrupted:
            break

    assert place > 40


def test_a_sender_interrupted_at_any_line_leaves_the_lock_free_once_it_gives_up() -> None:
    for place in count(1):
        time = SimulatedTime()
        stream = MemoryStream(time)
        loop = loop_of(stream, time, User())

        is_interrupted = At(place, within=(io_loop.__file__,)).call(partial(loop.send, b"abc"))
        loop.abort(GIVEN_UP)
        loop.send(b"def")

        assert is_free(loop.lock), place
        assert b"def" not in stream.sent
        if not is_interrupted:
            break

    assert place > 10


def test_an_interruption_takes_no_lock_from_another_thread(
    threaded: IoLoop, waiting: MemoryStream
) -> None:
    """That one leads: it sees that the connection is over, and leaves."""
    gate = threading.Event()
    waits, waiting.on_wait = waiting.waits, lambda: wait_for(gate, "to wait")
    thread = threading.Thread(
        target=lambda: threaded.drive_until(lambda: False, float("inf"), join=True), daemon=True
    )
    thread.start()
    wait_until(lambda: not is_free(threaded._leading), "it leads")

    threaded.abort(GIVEN_UP)

    assert not is_free(threaded._leading)
    gate.set()
    thread.join(WAIT_S)
    assert (threaded.end, waiting.waits) == (GIVEN_UP, waits + 1)


# Waking.


@pytest.mark.usefixtures("_wait_without_end")
def test_a_wait_is_ended_by_waking(threaded: IoLoop, waiting: MemoryStream, user: User) -> None:
    leader = Leader(threaded, waiting)
    begun, ticks = waiting.waits, len(user.ticks)

    threaded.wake()
    waiting.wait_until_waited_on(begun + 1)

    assert len(user.ticks) > ticks
    leader.let_go()


@pytest.mark.usefixtures("_wait_without_end")
def test_closing_ends_a_leaders_wait_and_the_stream(
    threaded: IoLoop, waiting: MemoryStream
) -> None:
    leader = Leader(threaded, waiting)

    threaded.close_stream()

    leader.join()
    assert waiting.closings == 1
    assert waiting.sent == b""


@pytest.mark.usefixtures("_wait_without_end")
def test_a_leader_that_leaves_has_the_connections_own_thread_lead_at_once(
    threaded: IoLoop, waiting: MemoryStream, user: User
) -> None:
    """Where something is expected still."""
    leader = Leader(threaded, waiting)
    with running(threaded) as own:
        user.is_busy = True
        leader.leave_by_itself()
        wait_until(lambda: own.name in user.threads, "its own thread leads")

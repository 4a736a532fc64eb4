"""The I/O loop over a stream in memory: what is sent in which order, what is due, what ends it."""

from __future__ import annotations

from math import inf

import pytest
from pika import exceptions as pika_errors, spec

from attune_mq.amqp import IoLoop
from attune_mq.amqp.io_loop import TURN_S
from attune_mq.errors import BrokerUnavailable
from tests.amqp.simulated import (
    HEARTBEAT,
    HEARTBEAT_S,
    MemoryStream,
    SimulatedTime,
    User,
    drive,
    is_free,
    method_frame,
    turn,
)
from tests.messaging.interruptions import Interrupted, TimeLimit

# What is sent.


def test_what_fits_goes_out_at_once(loop: IoLoop, stream: MemoryStream) -> None:
    loop.send(b"frame")

    assert stream.sent == b"frame"
    assert loop.has_sent_all


def test_what_does_not_fit_goes_out_when_there_is_room(loop: IoLoop, stream: MemoryStream) -> None:
    stream.room = 3
    loop.send(b"abcdef")
    assert stream.sent == b"abc"
    assert not loop.has_sent_all

    turn(loop)
    assert stream.sent == b"abc"
    stream.room = 100
    turn(loop)
    assert stream.sent == b"abcdef"
    assert loop.has_sent_all


def test_nothing_overtakes_the_rest_of_what_did_not_fit(
    loop: IoLoop, stream: MemoryStream, time: SimulatedTime
) -> None:
    """Neither what others send nor pika's own frames: it would stand in the midst of a frame."""
    stream.room = 3
    loop.send(b"abcdef")
    loop.send(b"ghi")
    drive(loop, time, HEARTBEAT_S * 0.6)
    loop.send(b"jkl")
    assert stream.sent == b"abc"

    stream.room = 5
    turn(loop)
    stream.room = float("inf")
    loop.send(b"mno")

    assert stream.sent == b"abcdefghi" + HEARTBEAT + b"jklmno"


def test_a_heartbeat_goes_out_in_its_time_though_nobody_sends(
    loop: IoLoop, stream: MemoryStream, time: SimulatedTime
) -> None:
    drive(loop, time, HEARTBEAT_S * 0.4)
    assert stream.sent == b""
    drive(loop, time, HEARTBEAT_S * 0.2)
    assert stream.sent == HEARTBEAT


@pytest.mark.parametrize("kind", [TimeLimit, Interrupted, KeyboardInterrupt])
def test_what_may_have_been_sent_is_not_sent_again(
    loop: IoLoop, stream: MemoryStream, time: SimulatedTime, kind: type[BaseException]
) -> None:
    """An error without ``errno`` is not the socket's but of a time limit, and its caller's."""
    stream.room = 3
    raising(stream, kind)
    with pytest.raises(kind):
        loop.send(b"abcdef")
    calm(stream)

    loop.send(b"ghi")
    drive(loop, time, 3 * HEARTBEAT_S)

    assert stream.sent == b"abc"
    assert isinstance(loop.end, BrokerUnavailable)


@pytest.mark.parametrize("kind", [TimeLimit, Interrupted])
def test_a_leader_interrupted_while_it_sends_the_rest_sends_no_more(
    loop: IoLoop, stream: MemoryStream, time: SimulatedTime, kind: type[BaseException]
) -> None:
    stream.room = 3
    loop.send(b"abcdef")
    stream.room = 1
    raising(stream, kind)
    with pytest.raises(kind):
        turn(loop)
    calm(stream)

    drive(loop, time, 3 * HEARTBEAT_S)

    assert stream.sent == b"abcd"
    assert loop.end is not None


def raising(stream: MemoryStream, kind: type[BaseException]) -> None:
    def interrupt() -> None:
        raise kind

    stream.on_send = interrupt


def calm(stream: MemoryStream) -> None:
    stream.on_send, stream.room = (lambda: None), float("inf")


OF_THE_SOCKET = [ConnectionResetError(104, "reset"), ConnectionAbortedError(), OSError(32, "pipe")]


@pytest.mark.parametrize("error", OF_THE_SOCKET, ids=repr)
def test_an_error_of_the_socket_while_sending_ends_the_connection(
    loop: IoLoop, stream: MemoryStream, error: OSError
) -> None:
    """And is no error of whoever sends: the connection's user learns of it."""

    def fail() -> None:
        raise error

    stream.on_send = fail
    loop.send(b"abc")
    calm(stream)
    loop.send(b"def")

    assert isinstance(loop.end, pika_errors.StreamLostError)
    assert stream.sent == b"abc"


@pytest.mark.parametrize("error", [*OF_THE_SOCKET, TimeoutError(110, "timed out")], ids=repr)
def test_an_error_of_the_socket_while_receiving_ends_the_connection(
    loop: IoLoop, stream: MemoryStream, error: OSError
) -> None:
    def fail() -> None:
        raise error

    stream.on_receive = fail
    stream.say(b"anything")
    turn(loop)
    loop.send(b"abc")

    assert isinstance(loop.end, pika_errors.StreamLostError)
    assert (error.strerror or type(error).__name__) in str(loop.end)
    assert stream.sent == b""


def test_the_end_of_the_stream_ends_the_connection(loop: IoLoop, stream: MemoryStream) -> None:
    stream.say(b"")
    turn(loop)

    assert isinstance(loop.end, pika_errors.StreamLostError)


def test_what_came_before_an_error_is_seen(loop: IoLoop, stream: MemoryStream, user: User) -> None:
    stream.say(HEARTBEAT + b"\x01\x00\x00\x00\x00\x00\x00?")
    turn(loop)

    assert isinstance(loop.end, pika_errors.AMQPError)
    assert len(user.received) == 1


def test_to_a_broker_that_has_closed_the_connection_nothing_is_sent(
    loop: IoLoop, stream: MemoryStream
) -> None:
    stream.say(method_frame(0, spec.Connection.Close(320, "maintenance", 0, 0)))
    turn(loop)
    loop.send(b"more")

    assert isinstance(loop.end, pika_errors.ConnectionClosedByBroker)
    assert stream.sent == b""


def test_a_silent_broker_is_given_up_by_the_heartbeat(
    loop: IoLoop, stream: MemoryStream, time: SimulatedTime
) -> None:
    began_s = time.now_s
    drive(loop, time, 10 * HEARTBEAT_S)

    assert isinstance(loop.end, pika_errors.AMQPHeartbeatTimeout)
    assert time.now_s - began_s <= 3 * HEARTBEAT_S + TURN_S


def test_over_a_connection_that_is_over_nobody_sends(loop: IoLoop, stream: MemoryStream) -> None:
    loop.give_up(Interrupted())

    loop.send(b"abc")
    loop.drive_until(lambda: False, float("inf"), join=True)

    assert (stream.sent, stream.waits) == (b"", 0)


def test_what_was_sent_and_not_acknowledged_is_no_traffic(
    loop: IoLoop, stream: MemoryStream
) -> None:
    before = loop.traffic_bytes
    stream.room = 5
    stream.unacknowledged = 2
    loop.send(b"abcdef")
    assert loop.traffic_bytes == before + 3 - 1  # of the 6 bytes one waits here, two on the wire

    stream.unacknowledged, stream.room = 0, 100
    stream.say(HEARTBEAT)
    turn(loop)
    assert loop.traffic_bytes == before + 6 + len(HEARTBEAT)


# When it does what is due.


def test_the_user_is_asked_when_it_has_something_to_do_and_else_twice_a_second(
    loop: IoLoop, time: SimulatedTime, user: User
) -> None:
    began_s = time.now_s
    user.due_s = began_s + 0.25
    user.on_tick = lambda: setattr(user, "due_s", inf) if time.now_s > began_s else None

    drive(loop, time, 1.0)

    assert user.ticks == [began_s, began_s + 0.25, began_s + 0.75]


def test_it_leads_no_longer_than_until_its_deadline(loop: IoLoop, time: SimulatedTime) -> None:
    began_s = time.now_s

    assert loop.drive_until(lambda: False, began_s + 7.3, join=True)

    assert time.now_s == pytest.approx(began_s + 7.3)
    assert loop.end is None


def test_who_does_not_wait_sees_what_has_come(
    loop: IoLoop, stream: MemoryStream, user: User, time: SimulatedTime
) -> None:
    stream.say(HEARTBEAT)

    assert loop.drive_until(lambda: False, time.now_s, join=True)

    assert (user.received, time.now_s) == ([time.now_s], 1_000.0)


def test_what_is_done_already_waits_for_nothing(
    loop: IoLoop, stream: MemoryStream, user: User
) -> None:
    assert loop.drive_until(lambda: True, float("inf"), join=True)

    assert (user.ticks, stream.waits) == ([], 0)


# A fork, TLS.


def test_a_fork_sends_nothing_over_the_connection_of_its_parent(
    loop: IoLoop, stream: MemoryStream
) -> None:
    stream.room = 2
    loop.send(b"abc")
    stream.room = 100

    loop.leave_to_parent()
    loop.send(b"def")
    loop.close_stream()

    assert stream.sent == b"ab"
    assert stream.closings >= 1


@pytest.mark.parametrize("is_shareable", [True, False])
def test_a_stream_that_is_one_state_for_both_is_never_read_and_written_at_once(
    loop: IoLoop, stream: MemoryStream, is_shareable: bool
) -> None:
    """As TLS is. Another one is read while somebody sends."""
    stream.is_shareable = is_shareable
    read_while_free: list[bool] = []
    sent_while_free: list[bool] = []
    stream.on_receive = lambda: read_while_free.append(is_free(loop.lock))
    stream.on_send = lambda: sent_while_free.append(is_free(loop.lock))

    loop.send(b"abc")
    stream.say(HEARTBEAT)
    turn(loop)

    assert sent_while_free == [False]
    assert read_while_free == [is_shareable]

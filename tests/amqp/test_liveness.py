"""Whether a broker that owes an answer is dead or slow, on a simulated clock."""

from __future__ import annotations

from typing import Any

import pytest
from pika import spec

from attune_mq.amqp import Connection
from attune_mq.amqp.liveness import GIVE_UP_AFTER_S, MUCH_BYTES, LivenessProbe
from attune_mq.amqp.protocol import ChannelState
from attune_mq.errors import BrokerUnavailable
from tests.amqp.simulated import HEARTBEAT, Broker, SimulatedTime, User, opened_connection

ONCE_S = 0.5


class Asking(User):
    """Asks once, and then looks for the answer, as the users of a connection do."""

    def __init__(self, connection: Connection, now_s: float, spare: ChannelState | None) -> None:
        super().__init__()
        self.probe = LivenessProbe(connection, now_s)
        self.spare = spare
        self.has_asked = False

    def tick(self, now_s: float) -> None:
        if not self.has_asked:
            self.has_asked = True
            self.probe.ask(now_s, self.spare)
        self.probe.require_answer(now_s)

    def receive(self, now_s: float) -> None:
        if self.probe.answer(now_s) is None and self.spare and self.spare.replies:
            self.spare.replies.popleft()
            self.probe.answered(now_s)


@pytest.fixture
def time() -> SimulatedTime:
    return SimulatedTime()


def asking(time: SimulatedTime, *, answers: bool, channels: int = 7, spare: bool = False) -> Any:
    broker = Broker(time, channel_max=channels)
    if answers:
        broker.answers[spec.Basic.Qos] = spec.Basic.QosOk()
    connection = opened_connection(broker, time)
    channel = connection.channel().state if spare else None
    connection.loop.user = Asking(connection, time.now_s, channel)
    return broker, connection, connection.loop.user


def test_a_broker_that_answers_keeps_its_connection(time: SimulatedTime) -> None:
    _, connection, user = asking(time, answers=True)

    connection.sleep(10 * GIVE_UP_AFTER_S)

    assert connection.is_open
    assert not user.probe.is_waiting


def test_a_broker_that_is_silent_is_given_up_after_its_time(time: SimulatedTime) -> None:
    began_s = time.now_s
    _, connection, _ = asking(time, answers=False)

    with pytest.raises(BrokerUnavailable, match="did not answer for 15 s"):
        connection.sleep(10 * GIVE_UP_AFTER_S)

    assert GIVE_UP_AFTER_S < time.now_s - began_s <= GIVE_UP_AFTER_S + 2 * ONCE_S


def test_bytes_that_come_are_signs_of_life_and_heartbeats_are_none(time: SimulatedTime) -> None:
    broker, connection, _ = asking(time, answers=False)
    large = spec.Basic.Deliver("tag", 1, False, "x" * 255, "k" * 255)  # of a channel nobody has

    for _ in range(4):
        connection.sleep(GIVE_UP_AFTER_S - 2)
        for _ in range(MUCH_BYTES // 500):
            broker.say_method(6, large)
    assert connection.is_open

    def with_heartbeats() -> None:
        for _ in range(20 * int(GIVE_UP_AFTER_S)):
            broker.say(HEARTBEAT)
            connection.sleep(1.0)

    with pytest.raises(BrokerUnavailable):
        with_heartbeats()


def test_what_moved_had_buffers_to_pass_so_the_answer_may_take_as_long(
    time: SimulatedTime,
) -> None:
    broker, connection, _ = asking(time, answers=False)
    connection.sleep(10.0)
    broker.say_method(6, spec.Basic.Deliver("t", 1, False, "", ""))
    for _ in range(MUCH_BYTES // 500):
        broker.say_method(6, spec.Basic.Deliver("t", 1, False, "x" * 255, "k" * 255))

    connection.sleep(GIVE_UP_AFTER_S + 9.0)
    assert connection.is_open

    with pytest.raises(BrokerUnavailable):
        connection.sleep(3.0)


def test_where_the_broker_allows_no_further_channel_the_spare_one_is_asked_on(
    time: SimulatedTime,
) -> None:
    broker, connection, user = asking(time, answers=True, channels=1, spare=True)

    connection.sleep(1.0)

    assert user.probe.channel is None
    assert (1, spec.Basic.Qos) in [(channel, type(method)) for channel, method in broker.heard]
    assert not user.probe.is_waiting

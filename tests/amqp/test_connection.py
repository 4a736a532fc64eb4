"""One connection to a broker: its opening, questions on it, its end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from pika import exceptions as pika_errors, spec

from attune_mq.amqp import connection as connection_module
from attune_mq.amqp.channel_methods import Refused
from attune_mq.amqp.connection import Channel, Connection
from attune_mq.amqp.frames import method_frame
from attune_mq.amqp.protocol import NoFreeChannel, RawMessage
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import BrokerUnavailable, ConsumeError
from tests.amqp.simulated import (
    Broker,
    MemoryStream,
    SimulatedTime,
    User,
    is_free,
    opened_connection,
)
from tests.messaging.bench import CLOSED_URL, WAIT_S, Bench
from tests.messaging.interruptions import At, Interrupted, TimeLimit
from tests.messaging.proxy import Proxy

MISSING = method_frame(2, spec.Queue.Declare(0, "not there", True, False, False, False, False, {}))


def opened(url: str, **settings: Any) -> Connection:
    return Connection.open(BrokerSettings(urls=(url,), **settings), name="tests")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def connection(broker_url: str) -> Iterator[Connection]:
    connection = opened(broker_url)
    yield connection
    connection.close()


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    yield bench
    bench.close()


@pytest.fixture
def proxy(broker_url: str) -> Iterator[Proxy]:
    proxy = Proxy(broker_url)
    yield proxy
    proxy.close()


@pytest.fixture
def broker_of_a_few_words(time: SimulatedTime) -> Broker:
    return Broker(time)


@pytest.fixture
def simulated(broker_of_a_few_words: Broker, time: SimulatedTime) -> Connection:
    return opened_connection(broker_of_a_few_words, time)


# Opening.


def test_a_connection_that_is_open_knows_its_broker(connection: Connection, broker: Any) -> None:
    assert connection.is_open
    assert not connection.link.blocked
    assert connection.link.version == broker.version
    assert connection.link.frame_max == 131_072


def test_any_of_several_hosts_will_do(broker_url: str) -> None:
    for _ in range(4):  # whichever is tried first
        Connection.open(BrokerSettings(urls=(CLOSED_URL, broker_url)), name="tests").close()


def test_where_no_host_can_be_reached_each_says_why(proxy: Proxy) -> None:
    proxy.refuse()
    settings = BrokerSettings(urls=(CLOSED_URL, proxy.url))

    with pytest.raises(BrokerUnavailable) as caught:
        Connection.open(settings, name="tests")

    assert "connection refused" in str(caught.value)
    assert "connection closed before the AMQP handshake" in str(caught.value)


@pytest.mark.parametrize("byte_count", [1, 500])
def test_a_connection_that_is_cut_in_its_handshake_is_unavailable_and_holds_nothing(
    proxy: Proxy, byte_count: int
) -> None:
    """And is no refusal, for which pika takes it; waiting mends it."""
    before = descriptors()
    proxy.cut_next_after(byte_count, "to client")
    with pytest.raises(BrokerUnavailable):
        opened(proxy.url)

    proxy.cut()
    assert len(descriptors()) == len(before)


def test_a_broker_that_does_not_answer_the_handshake_in_time_is_unavailable(proxy: Proxy) -> None:
    proxy.stall_next("to client")

    with pytest.raises(BrokerUnavailable, match="it does not answer in time"):
        opened(proxy.url, connect_timeout_s=0.2)


# Questions.


@pytest.fixture
def channel(connection: Connection) -> Channel:
    return connection.channel()


def test_questions_asked_at_once_are_answered_in_their_order(channel: Channel) -> None:
    names = ["one", "two", "three"]

    answers = channel.ask_all(
        [spec.Queue.Declare(0, name, exclusive=True, arguments={}) for name in names]
    )

    assert [answer.queue for answer in answers if isinstance(answer, spec.Queue.DeclareOk)] == names


def test_a_refusal_has_code_and_text_and_costs_the_channel_alone(
    connection: Connection, channel: Channel
) -> None:
    with pytest.raises(Refused) as caught:
        channel.queue_declare("not there", passive=True)

    assert (caught.value.code, caught.value.is_connection) == (404, False)
    assert "no queue 'not there'" in caught.value.text
    assert not channel.is_open
    with pytest.raises(Refused, match="not there"):
        channel.basic_qos(1)
    connection.channel().basic_qos(1)


def test_a_refusal_refuses_what_was_asked_after_it(connection: Connection, bench: Bench) -> None:
    declare = spec.Queue.Declare(0, "before", arguments={}, durable=True)
    missing = spec.Queue.Declare(0, "not there", True, arguments={})
    late = spec.Queue.Declare(0, "after", arguments={}, durable=True)

    with pytest.raises(Refused, match="not there"):
        connection.channel().ask_all([declare, missing, late])

    assert bench.depth("before") == 0
    with pytest.raises(pika_errors.ChannelClosedByBroker):
        bench.depth("after")


def test_what_ends_the_connection_is_told_apart(broker_url: str) -> None:
    connection = opened(broker_url)
    unknown = method_frame(1, spec.Channel.OpenOk())  # no client says so
    channel = connection.channel()

    channel.send(unknown)
    with pytest.raises(Refused) as caught:
        channel.basic_qos(1)

    assert caught.value.is_connection
    assert not connection.is_open
    connection.close()


def test_a_broker_that_ends_connections_for_its_own_reasons_refuses_nothing(
    simulated: Connection, broker_of_a_few_words: Broker
) -> None:
    broker_of_a_few_words.answers[spec.Basic.Qos] = spec.Connection.Close(320, "bye", 0, 0)
    channel = simulated.channel()

    with pytest.raises(BrokerUnavailable, match="320 bye"):
        channel.basic_qos(1)


def test_what_is_lost_while_it_is_asked_is_unavailable(proxy: Proxy) -> None:
    connection = opened(proxy.url)
    channel = connection.channel()
    proxy.cut()

    with pytest.raises(BrokerUnavailable):
        channel.basic_qos(1)
    with pytest.raises(BrokerUnavailable):
        channel.basic_qos(1)
    connection.close()


def test_a_broker_that_does_not_answer_in_time_costs_the_connection(proxy: Proxy) -> None:
    """Whether it was done is not known, and its answer may still come."""
    connection = opened(proxy.url)
    channel = connection.channel(within_s=0.1)
    proxy.stall("to client")

    with pytest.raises(BrokerUnavailable, match=r"the broker did not answer for 0\.1 s"):
        channel.queue_declare("slow", exclusive=True)

    assert not connection.is_open
    connection.close()


def test_a_fetched_message_is_an_answer_and_none_is_another(channel: Channel, bench: Bench) -> None:
    bench.channel.queue_declare("queue", durable=True)
    bench.put("queue", b"body")

    message = channel.basic_get("queue")
    assert isinstance(message, RawMessage)
    assert (message.body, message.exchange, message.routing_key) == (b"body", "", "queue")
    assert channel.basic_get("queue") is None
    channel.basic_nack(message.delivery_tag)
    again = channel.basic_get("queue")
    assert again is not None
    assert again.redelivered
    channel.basic_ack(again.delivery_tag)
    channel.close()
    assert bench.depth("queue") == 0


def test_a_channel_that_is_closed_has_given_back_what_it_had(
    channel: Channel, bench: Bench
) -> None:
    bench.channel.queue_declare("queue", durable=True)
    bench.put("queue", b"body")
    channel.basic_get("queue")

    channel.close()

    assert bench.depth("queue") == 1
    with pytest.raises(BrokerUnavailable, match="the channel is closed"):
        channel.basic_qos(1)


def test_what_is_delivered_is_an_event(channel: Channel, bench: Bench) -> None:
    bench.channel.queue_declare("queue", durable=True)
    tag = channel.basic_consume("queue")
    assert channel.wait_for_events(0.0) == []

    bench.put("queue", b"body")
    [event] = channel.wait_for_events(WAIT_S)
    assert isinstance(event, RawMessage)

    channel.basic_cancel(tag)
    assert not channel.state.consumer_tags


def test_a_broker_that_allows_no_further_channel_says_so(
    time: SimulatedTime,
) -> None:
    connection = opened_connection(Broker(time, channel_max=1), time)
    connection.channel()

    with pytest.raises(NoFreeChannel):
        connection.channel()


# A question that is interrupted.


@pytest.mark.parametrize("kind", [Interrupted, TimeLimit])
def test_a_question_interrupted_at_any_line_has_no_other_one_get_its_answer(
    broker_url: str, bench: Bench, kind: type[BaseException]
) -> None:
    """It ends the connection, unless it was interrupted before it was sent."""
    bench.channel.queue_declare("one", durable=True)
    bench.channel.queue_declare("two", durable=True)
    survived: list[int] = []
    for place in count(1):
        connection = opened(broker_url)
        channel = connection.channel()

        interruption = At(place, kind=kind)
        is_interrupted = interruption.call(partial(channel.queue_declare, "one", passive=True))
        assert is_interrupted == interruption.has_raised, place
        try:
            assert channel.queue_declare("two", passive=True).queue == "two", place
            survived.append(place)
        except BrokerUnavailable:
            assert connection.loop.end is not None

        assert is_free(connection.loop.lock), place
        assert is_free(connection.loop._leading), place
        connection.close()
        if not is_interrupted:
            break

    assert place > 100
    assert len(survived) < place / 3


def test_an_interrupted_question_is_over_for_whoever_asks_next(connection: Connection) -> None:
    channel = connection.channel()
    connection.loop.user = user = User()

    def interrupt() -> None:
        raise KeyboardInterrupt

    user.on_receive = interrupt
    with pytest.raises(KeyboardInterrupt):
        channel.basic_qos(1)

    with pytest.raises(BrokerUnavailable, match="given up"):
        channel.basic_qos(1)
    assert not connection.is_open


# Its end.


def test_a_channel_that_the_broker_closes_meanwhile_does_not_keep_a_connection_open(
    broker_url: str,
) -> None:
    for _ in range(20):  # the broker may answer the one channel before the other
        connection = opened(broker_url)
        connection.channel()
        connection.channel().send(MISSING)

        connection.close()

        assert isinstance(connection.loop.end, pika_errors.ConnectionClosedByClient)
        assert not connection.is_open


def test_a_user_that_fails_while_its_connection_closes_keeps_it_neither_open_nor_fails_it(
    broker_url: str,
) -> None:
    """A consumer ended for good when its queue was deleted while a handler finished: its
    acknowledgement was still to be written, and found the channel closed."""
    connection = opened(broker_url)
    user = User()

    def acknowledge() -> None:
        raise ConsumeError("the broker closed the channel")

    connection.serve(user, lambda: True)
    user.on_tick = user.on_receive = acknowledge
    connection.close()

    assert isinstance(connection.loop.end, pika_errors.ConnectionClosedByClient)


def test_a_connection_that_was_abandoned_holds_no_descriptor(broker_url: str) -> None:
    before = descriptors()
    connection = opened(broker_url)
    channel = connection.channel()
    connection.abandon("it does not answer")
    with pytest.raises(BrokerUnavailable, match="it does not answer"):
        channel.basic_qos(1)

    connection.close()
    connection.close()

    assert descriptors() == before


def test_a_connection_is_closed_while_another_thread_drives_it(broker_url: str) -> None:
    connection = opened(broker_url)
    user = User()
    user.is_busy = True
    serving = threading.Thread(target=connection.serve, args=(user, lambda: False), daemon=True)
    serving.start()

    connection.close()

    serving.join(WAIT_S)
    assert not serving.is_alive()
    assert isinstance(connection.loop.end, pika_errors.ConnectionClosedByClient)


def test_a_broker_that_does_not_agree_to_the_closing_is_not_waited_for(
    time: SimulatedTime, broker_of_a_few_words: Broker, simulated: Connection
) -> None:
    del broker_of_a_few_words.answers[spec.Connection.Close]
    began_s = time.now_s

    simulated.close()

    assert time.now_s - began_s == pytest.approx(connection_module.CLOSING_S)
    assert not simulated.is_open
    assert broker_of_a_few_words.closings == 1


def test_an_interruption_while_it_closes_leaves_no_descriptor(broker_url: str) -> None:
    before = descriptors()
    for place in count(1):
        connection = opened(broker_url)
        is_interrupted = At(place, within=(connection_module.__file__,)).call(connection.close)
        connection.close()

        assert descriptors() == before, place
        if not is_interrupted:
            break

    assert place > 5


def test_whoever_waits_on_a_connection_that_ends_learns_why(
    simulated: Connection, broker_of_a_few_words: MemoryStream
) -> None:
    broker_of_a_few_words.say(b"")

    with pytest.raises(BrokerUnavailable, match="the peer closed it"):
        simulated.drive(lambda: False, 10.0)

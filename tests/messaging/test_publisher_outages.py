"""The publisher, when the broker or the way to it fails: every message has a receipt or an error,
and what has a receipt is in its queue, and is handled in the end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pika
import pytest

from attune_mq import Consumer, Envelope, Publisher, Topology, setup_infrastructure
from attune_mq.amqp import liveness
from attune_mq.broker import EmbeddedBroker
from attune_mq.errors import NotConfirmed, PublishError, PublishRefused
from attune_mq.message import Outgoing, decode
from attune_mq.publishing import MAX_IN_FLIGHT, confirm_connection
from tests.messaging.bench import (
    WAIT_S,
    Bench,
    Calls,
    handlers_of,
    request,
    running,
    wait_for_state,
)
from tests.messaging.proxy import Direction, Proxy
from tests.waiting import wait_until


@pytest.fixture
def publisher(topology: Topology, bench: Bench, proxy: Proxy) -> Iterator[Publisher]:
    """By way of the proxy, and connected."""
    with Publisher(topology, proxy.url) as publisher:
        publisher.publish(request(0))
        yield publisher


def outgoing(publisher: Publisher, number: int) -> Outgoing:
    return publisher.outgoing(Envelope.of(request(number)))


def executions(bench: Bench) -> set[int]:
    return {
        int(decode(waiting.body).payload["execution_id"])
        for waiting in bench.take_all("work.queue")
    }


# The way to the broker.


def test_a_connection_that_is_cut_is_opened_again(
    publisher: Publisher, bench: Bench, proxy: Proxy
) -> None:
    proxy.cut()

    publish_until_confirmed(publisher, 1)

    assert executions(bench) == {0, 1}


def test_what_was_sent_and_not_confirmed_when_the_connection_is_cut_is_reported(
    publisher: Publisher, bench: Bench, proxy: Proxy
) -> None:
    proxy.stall("to client")
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(publisher.publish, request(1))
        bench.wait_for_depth("work.queue", 2)  # the broker has it, and its confirm is on the way
        proxy.cut()

        with pytest.raises(NotConfirmed, match="the connection was lost") as raised:
            outcome.result(WAIT_S)

    assert raised.value.sent is True
    publish_until_confirmed(publisher, 2)
    assert executions(bench) == {0, 1, 2}


def test_a_connection_cut_in_mid_frame_is_reported_and_nothing_of_it_arrives(
    publisher: Publisher, bench: Bench, proxy: Proxy
) -> None:
    proxy.cut_after(300, "to broker")
    large = request(1).model_copy(update={"config": {"blob": "x" * 100_000}})

    with pytest.raises(NotConfirmed) as raised:
        publisher.publish(large)

    assert raised.value.sent is True
    publish_until_confirmed(publisher, 2)
    assert executions(bench) == {0, 2}


def test_a_confirm_cut_in_mid_frame_is_none(
    publisher: Publisher, bench: Bench, proxy: Proxy
) -> None:
    proxy.cut_after(3, "to client")

    with pytest.raises(NotConfirmed) as raised:
        publisher.publish(request(1))

    assert raised.value.sent is True


def test_a_stalled_connection_holds_nobody_beyond_the_deadline(
    publisher: Publisher, proxy: Proxy
) -> None:
    proxy.stall("to broker")

    with pytest.raises(NotConfirmed, match=r"no confirm within 0.3 s") as raised:
        publisher.publish(request(1), timeout_s=0.3)

    assert raised.value.sent is True


def test_a_connection_whose_confirms_never_come_is_given_up_for_another(
    publisher: Publisher, proxy: Proxy
) -> None:
    """As of a quorum queue without its majority: it neither confirms nor refuses."""
    proxy.stall("to client")
    messages = [outgoing(publisher, number) for number in range(MAX_IN_FLIGHT)]

    outcomes = publisher.send(messages, timeout_s=1)

    assert all(isinstance(one, NotConfirmed) and one.sent for one in outcomes)
    publisher.publish(request(1))
    assert publisher.connections == 2


@pytest.mark.parametrize("direction", ["to broker", "to client"])
def test_a_connection_that_died_without_a_word_is_given_up_before_the_heartbeat_notices(
    publisher: Publisher, proxy: Proxy, direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "GIVE_UP_AFTER_S", 0.5)
    proxy.stall(direction)

    with pytest.raises(NotConfirmed, match=r"the broker did not answer for 0.5 s") as raised:
        publisher.publish(request(1), timeout_s=25)

    assert raised.value.sent is True
    publisher.publish(request(1))
    assert publisher.connections == 2


def test_a_connection_whose_link_is_slow_is_not_given_up_while_a_message_goes_over(
    broker_url: str, topology: Topology, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question whether the broker lives comes after the message, which takes longer than an
    answer may."""
    monkeypatch.setattr(liveness, "GIVE_UP_AFTER_S", 1.2)
    monkeypatch.setattr(confirm_connection, "WATCHDOG_S", 0.1)
    slow = Proxy(broker_url, slow=("to broker", 1_000_000))
    large = request(1).model_copy(update={"config": {"blob": "x" * 6_000_000}})
    try:
        with Publisher(topology, slow.url) as publisher:
            publisher.publish(large)
            assert publisher.connections == 1
    finally:
        slow.close()
    assert bench.depth("work.queue") == 1


def test_a_connection_whose_queue_is_slow_is_not_given_up(
    fault_broker: EmbeddedBroker, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "GIVE_UP_AFTER_S", 0.5)
    with fault_broker.fresh_vhost() as url, Publisher(topology, url) as publisher:
        bench = Bench(url)
        bench.set_up(topology)
        publisher.publish(request(0))
        fault_broker.rabbitmqctl("eval", of_the_process_of_the_queue("sys:suspend", url))

        with pytest.raises(NotConfirmed, match=r"no confirm within 5 s"):
            publisher.publish(request(1), timeout_s=5)

        fault_broker.rabbitmqctl("eval", of_the_process_of_the_queue("sys:resume", url))
        publisher.publish(request(2))
        assert publisher.connections == 1
        bench.close()


def of_the_process_of_the_queue(function: str, url: str) -> str:
    """For ``rabbitmqctl eval``: calls a function of Erlang with the process of the queue."""
    vhost = url.rpartition("/")[2]
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"work.queue">>)'
    return f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), {function}(amqqueue:get_pid(Q))."


def test_a_connection_cut_in_its_handshake_is_not_taken_for_a_wrong_password(
    topology: Topology, bench: Bench, proxy: Proxy
) -> None:
    """pika guesses "probably a wrong password", which would be an error for whoever waits."""
    greeting = bytes_of_greeting(bench.url)
    for byte_count in (greeting, greeting + TUNE_BYTES):  # while we log in, and just after
        proxy.cut_next_after(byte_count, "to client")
        with Publisher(topology, proxy.url) as publisher:
            publisher.publish(request(1))


TUNE_BYTES = 20
"""What the broker sends when it has let us in: a frame with the limits of the connection."""


def bytes_of_greeting(url: str) -> int:
    """How long the broker's first frame is, in which it says what it is: by version."""
    parameters = pika.URLParameters(url)
    with socket.create_connection((parameters.host, parameters.port), 30) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        with connection.makefile("rb") as stream:
            return 7 + int.from_bytes(stream.read(7)[3:], "big") + 1


def publish_until_confirmed(publisher: Publisher, number: int) -> None:
    """A message on its way when the connection goes is an error; its caller tries again."""

    def confirmed() -> bool:
        try:
            publisher.publish(request(number))
        except NotConfirmed:
            return False
        return True

    wait_until(confirmed, f"message {number} is confirmed")


# The broker itself.


@pytest.fixture
def fault_bench(fault_broker: EmbeddedBroker, topology: Topology) -> Iterator[Bench]:
    with fault_broker.fresh_vhost() as url:
        bench = Bench(url)
        bench.set_up(topology)
        yield bench
        bench.close()


def test_a_message_above_the_brokers_limit_is_refused_and_no_other(
    topology: Topology, fault_bench: Bench
) -> None:
    with Publisher(topology, fault_bench.url) as publisher:
        small = [outgoing(publisher, number) for number in range(20)]
        large = small[10]._replace(body=b"x" * 1_000_001)

        outcomes = publisher.send([*small[:10], large, *small[11:]])

        assert isinstance(outcomes[10], PublishRefused)
        assert "message size" in str(outcomes[10])
        assert not any(isinstance(one, PublishRefused) for one in outcomes[:10] + outcomes[11:])
        publisher.publish(request(20))


def test_the_deadline_holds_while_the_broker_blocks_publishers(
    topology: Topology, fault_broker: EmbeddedBroker, fault_bench: Bench
) -> None:
    with Publisher(topology, fault_bench.url) as publisher:
        publisher.publish(request(0))
        fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0")
        try:
            # The broker says that it blocks once something is published; so much was sent.
            with pytest.raises(NotConfirmed):
                publisher.publish(request(1), timeout_s=0.5)
            with pytest.raises(NotConfirmed, match="memory or disk alarm") as raised:
                publisher.publish(request(2), timeout_s=0.5)
            assert raised.value.sent is False
            assert "alarm" in str(publisher.trouble)
        finally:
            fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0.4")

        publisher.publish(request(3))
        assert publisher.trouble is None
        assert publisher.connections == 1
    assert executions(fault_bench) == {0, 1, 3}


def test_the_deadline_holds_while_the_broker_is_frozen(
    topology: Topology, fault_broker: EmbeddedBroker, fault_bench: Bench
) -> None:
    with Publisher(topology, fault_bench.url) as publisher:
        publisher.publish(request(0))
        fault_broker.pause()
        try:
            with pytest.raises(NotConfirmed) as raised:
                publisher.publish(request(1), timeout_s=0.3)
        finally:
            fault_broker.resume()

        assert raised.value.sent is True
        publisher.publish(request(2))
    assert executions(fault_bench) == {0, 1, 2}


def _kill(broker: EmbeddedBroker) -> None:
    broker.kill()
    broker.start()


def _close_all_connections(broker: EmbeddedBroker) -> None:
    """As a broker does that is stopped in order."""
    broker.rabbitmqctl("close_all_connections", "--global", "maintenance")


@pytest.mark.parametrize("outage", [_kill, _close_all_connections], ids=["killed", "maintained"])
def test_what_eight_threads_have_a_receipt_for_is_handled_in_spite_of_an_outage_of_the_broker(
    topology: Topology, fault_broker: EmbeddedBroker, outage: Callable[[EmbeddedBroker], None]
) -> None:
    with fault_broker.fresh_vhost() as url:
        setup_infrastructure(topology, url)
        fault_broker.restart()  # what was declared moments before a kill may be gone with it
        consumer = Consumer(topology, "worker", handlers_of(calls := Calls()), url)
        writers: list[Writer] = []
        with (
            running(consumer),
            Publisher(topology, url) as publisher,
            ThreadPoolExecutor(8) as pool,
        ):
            wait_for_state(consumer, "consuming")
            writers += [Writer(publisher, number * 1_000_000) for number in range(8)]
            asked = [pool.submit(writer.run) for writer in writers]
            try:
                for writer in writers:
                    writer.wait_for_receipts(10)
                outage(fault_broker)
                wait_until(lambda: publisher.connections > 1, "the publisher connects again")
                wait_until(lambda: consumer.status.connections > 1, "the consumer connects again")
                for writer in writers:
                    writer.wait_for_receipts(len(writer.receipts) + 10)
            finally:
                for writer in writers:
                    writer.over.set()
            for one in asked:
                one.result(WAIT_S)
            confirmed = {number for writer in writers for number in writer.receipts}
            wait_until(lambda: confirmed <= set(calls.ids), "all that was confirmed is handled")

    assert all(len(w.receipts) + len(w.errors) == w.asked for w in writers)


class Writer:
    """Publishes one message after the other until it is over, and remembers every outcome."""

    def __init__(self, publisher: Publisher, first: int) -> None:
        self._publisher = publisher
        self._first = first
        self._changed = threading.Condition()
        self.asked = 0
        self.receipts: list[int] = []
        self.errors: list[PublishError] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):  # enough to keep a connection busy, not a machine
            number = self._first + self.asked
            self.asked += 1
            try:
                self._publisher.publish(request(number))
            except PublishError as error:
                self.errors.append(error)
            else:
                with self._changed:
                    self.receipts.append(number)
                    self._changed.notify_all()

    def wait_for_receipts(self, count: int) -> None:
        with self._changed:
            got = self._changed.wait_for(lambda: len(self.receipts) >= count, WAIT_S)
            assert got, f"still waiting: {count} receipts, got {len(self.receipts)}"

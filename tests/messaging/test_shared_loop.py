"""A publisher's connection, whose loop is turned by whoever waits and which any thread sends on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from attune_mq import Envelope, Publisher, Receipt, Topology
from attune_mq.errors import NotConfirmed, PublishError, PublishRefused
from attune_mq.message import Outgoing, decode
from attune_mq.message.outgoing import Outcome
from tests.messaging.bench import Bench, request
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until

THREADS = 8


@pytest.fixture
def publisher(topology: Topology, bench: Bench) -> Iterator[Publisher]:
    with Publisher(topology, bench.url) as publisher:
        publisher.publish(request(0))
        bench.take_all("work.queue")
        yield publisher


def outgoing(publisher: Publisher, number: int) -> Outgoing:
    return publisher.outgoing(Envelope.of(request(number)))


def sent_by_threads(publisher: Publisher, messages: list[Outgoing]) -> list[Outcome]:
    """One by one, by several threads at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [one for [one] in pool.map(lambda message: publisher.send([message]), messages)]


@pytest.mark.usefixtures("bench")
def test_a_caller_that_is_interrupted_costs_a_connection_and_no_message_silently(
    topology: Topology, proxy: Proxy
) -> None:
    """Its interruption may have come in the midst of a frame."""
    with Publisher(topology, proxy.url) as publisher:
        publisher.publish(request(0))
        sockets = open_sockets()
        proxy.stall("to client")
        others: list[Outcome] = []
        other = threading.Thread(target=lambda: others.extend(publisher.send([message])))
        message = outgoing(publisher, 1)

        def interrupt() -> None:
            wait_until(lambda: publisher.unconfirmed_count == 1, "the main thread waits")
            other.start()
            wait_until(lambda: publisher.unconfirmed_count == 2, "another one waits with it")
            os.kill(os.getpid(), signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            publisher.publish(request(2))
        interrupting.join()
        other.join()

        [outcome] = others
        assert isinstance(outcome, NotConfirmed)
        assert outcome.sent
        assert "KeyboardInterrupt" in str(outcome)
        publisher.publish(request(3))
        assert publisher.connections == 2
        wait_until(lambda: open_sockets() == sockets, "the first connection's sockets are closed")


def open_sockets() -> int:
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.islink(link))


def test_what_the_operating_system_does_not_take_at_once_is_sent_whole_and_in_order(
    publisher: Publisher, bench: Bench
) -> None:
    """Bodies that fill its buffers many times, of several threads at once."""
    bodies = [bytes([65 + number]) * 3_000_000 for number in range(2 * THREADS)]
    messages = [outgoing(publisher, 0)._replace(body=body) for body in bodies]

    outcomes = sent_by_threads(publisher, messages)

    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    assert sorted(one.body for one in bench.take_all("work.queue")) == sorted(bodies)
    assert publisher.connections == 1


def test_a_channel_that_the_broker_closes_again_and_again_does_not_cost_the_connection(
    publisher: Publisher, bench: Bench
) -> None:
    """What is sent on it after the answer to its closing would end the connection."""
    messages = [outgoing(publisher, number) for number in range(THREADS * 25)]
    messages[::THREADS] = [one._replace(exchange="nowhere") for one in messages[::THREADS]]

    outcomes = sent_by_threads(publisher, messages)

    assert all(isinstance(one, PublishRefused) for one in outcomes[::THREADS])
    confirmed = {number for number, one in enumerate(outcomes) if isinstance(one, Receipt)}
    unconfirmed = [one for one in outcomes if isinstance(one, NotConfirmed)]
    assert all("because of another message" in str(one) for one in unconfirmed)
    assert sum(isinstance(one, PublishError) for one in outcomes) + len(confirmed) == len(outcomes)
    arrived = {decode(one.body).payload["execution_id"] for one in bench.take_all("work.queue")}
    assert confirmed <= arrived
    assert publisher.connections == 1

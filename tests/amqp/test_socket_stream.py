"""A socket of the operating system, as a connection uses it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from attune_mq.amqp.runtime import SocketStream
from tests.messaging.bench import WAIT_S


@pytest.fixture
def pair() -> Iterator[tuple[SocketStream, socket.socket]]:
    ours, peers = socket.socketpair()
    stream = SocketStream(ours)
    yield stream, peers
    stream.close()
    peers.close()


def test_a_socket_says_what_it_is_ready_for(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, peers = pair
    assert stream.wait(0.0, writable=False) == (False, False)
    assert stream.wait(WAIT_S, writable=True) == (False, True)
    assert stream.receive() is None

    peers.send(b"abc")
    assert stream.wait(WAIT_S, writable=False) == (True, False)
    assert stream.receive() == b"abc"
    peers.close()
    assert stream.wait(WAIT_S, writable=False).readable
    assert stream.receive() == b""


def test_a_socket_that_is_full_takes_the_rest_later(
    pair: tuple[SocketStream, socket.socket],
) -> None:
    stream, peers = pair
    sent = 0
    while taken := stream.send(bytes(65_536)):
        sent += taken
    assert stream.wait(0.0, writable=True) == (False, False)

    while sent:
        sent -= len(peers.recv(65_536))
    assert stream.wait(WAIT_S, writable=True) == (False, True)


def test_a_wait_on_a_socket_is_ended_by_waking_it_before_or_meanwhile(
    pair: tuple[SocketStream, socket.socket],
) -> None:
    stream, _ = pair
    for _ in range(1_000):  # more than its buffer takes
        stream.wake()
    assert stream.wait(WAIT_S, writable=False) == (False, False)

    waiting = threading.Thread(target=lambda: stream.wait(10 * WAIT_S, writable=False), daemon=True)
    waiting.start()
    stream.wake()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()


def test_a_socket_that_is_closed_is_waked_and_closed_again_without_an_error(
    pair: tuple[SocketStream, socket.socket],
) -> None:
    stream, peers = pair

    stream.close()
    stream.close()
    stream.wake()

    assert peers.recv(1) == b""
    assert stream.unacknowledged_bytes() == 0

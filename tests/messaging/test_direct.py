"""What several threads send over one connection stays apart, and apart from what pika does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from pika.exceptions import ConnectionWrongStateError
from pika.frame import Heartbeat

from attune_mq.amqp.frames import ConfirmReader
from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.amqp.traffic import MUCH_BYTES, Traffic


class Sending(DirectConnection):
    """Open, with a socket for its outlet; what is handed to pika's own buffer is noted."""

    is_open = True

    def __init__(self, outlet: socket.socket) -> None:
        self.exclusive = threading.RLock()
        self._outlet = outlet
        self._rest = b""
        self._transport = cast(Any, self)
        self._frame_buffer = b""
        self.bytes_sent = self.frames_sent = self.bytes_received = 0
        self.buffered: list[bytes] = []
        self.soon: list[Callable[[], None]] = []
        self.held_elsewhere: list[bool] = []

    def _get_write_buffer_size(self) -> int:
        return sum(map(len, self.buffered))

    get_write_buffer_size = _get_write_buffer_size

    def _on_socket_writable(self) -> None:
        """Nothing fits."""

    def _adapter_emit_data(self, data: bytes) -> None:
        self.buffered.append(data)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def _process_frame(self, _frame: Any) -> None:
        self.note_whether_others_wait()

    def note_whether_others_wait(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            self.held_elsewhere.append(not pool.submit(self._can_have_it).result())

    def _can_have_it(self) -> bool:
        can = self.exclusive.acquire(blocking=False)
        if can:
            self.exclusive.release()
        return can

    def feed(self, data: bytes) -> None:
        self._on_data_available(data)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, which takes what fits and no more, and the broker's."""
    ours, brokers = socket.socketpair()
    ours.setblocking(False)
    brokers.setblocking(False)
    yield ours, brokers
    ours.close()
    brokers.close()


def drained(end: socket.socket) -> bytes:
    taken = b""
    while True:
        try:
            taken += end.recv(1 << 20)
        except BlockingIOError:
            return taken


def test_what_fits_goes_to_the_operating_system_at_once(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    connection = Sending(ends[0])

    connection.send(b"one")
    connection.send(b"two")

    assert drained(ends[1]) == b"onetwo"
    assert connection.has_sent_all
    assert not connection.soon


def test_nothing_overtakes_the_rest_of_what_did_not_fit(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    connection = Sending(ends[0])
    large = bytes(8_000_000)

    connection.send(large)
    began = drained(ends[1])
    connection.send(b"two")  # it would fit now
    assert drained(ends[1]) == b""

    [write_the_rest] = connection.soon
    write_the_rest()
    connection.send(b"three")  # pika's buffer is not empty yet
    assert drained(ends[1]) == b""
    connection.soon[1]()
    assert began + b"".join(connection.buffered) == large + b"two" + b"three"


def test_what_pika_sends_itself_comes_after_the_rest(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    connection = Sending(ends[0])
    large = bytes(8_000_000)
    connection.send(large)
    heartbeat = Heartbeat().marshal()

    connection._output_marshaled_frames([heartbeat])

    assert drained(ends[1]) + b"".join(connection.buffered) == large + heartbeat


def test_nobody_sends_while_pika_is_at_a_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    """It answers the closing of a channel first and marks the channel as closed then."""
    connection = Sending(ends[0])
    connection.read_with(ConfirmReader(1), lambda _: None)

    connection.feed(Heartbeat().marshal())

    assert connection.held_elsewhere == [True]


def test_send_is_blocked_while_pika_tears_down_a_lost_connection(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It forgets its transport first, says so in the log, and marks the connection as closed then.
    A publisher whose connection was lost just then raised ``AttributeError`` to its caller."""
    connection = Sending(ends[0])
    monkeypatch.setattr("pika.SelectConnection._on_stream_terminated", lambda *_: None)
    monkeypatch.setattr(
        "pika.adapters.base_connection.LOGGER.log", lambda *_: connection.note_whether_others_wait()
    )

    connection._proto_connection_lost(ConnectionResetError())

    assert connection.held_elsewhere == [True]


def test_nothing_is_sent_over_a_connection_that_has_ended(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor to a number that somebody else has opened since."""
    connection = Sending(ends[0])
    monkeypatch.setattr("pika.SelectConnection._on_stream_terminated", lambda *_: None)

    connection._proto_connection_lost(ConnectionResetError())
    connection.send(b"late")

    assert ends[0].fileno() == -1
    assert ends[1].recv(100) == b""  # the end


class Moving:
    """A connection on which so many bytes have moved."""

    traffic_bytes = 0


def test_what_is_as_small_as_a_heartbeat_is_no_sign_of_life() -> None:
    """Our own heartbeats kept a consumer on a connection whose broker was not heard any more."""
    connection = Moving()
    traffic = Traffic(cast(DirectConnection, connection))
    began_at_s = traffic.moved_at_s

    connection.traffic_bytes = MUCH_BYTES - 1
    assert traffic.look() == began_at_s
    connection.traffic_bytes = MUCH_BYTES
    assert traffic.look() > began_at_s


def test_what_may_have_been_sent_is_not_sent_again(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """A time limit is an ``OSError``, and was taken for one of the socket: the message went out
    twice, and each later confirm was given to another message."""
    connection = Sending(ends[0])

    class Interrupted:
        def send(self, frames: bytes) -> int:
            ends[0].send(frames)
            raise TimeoutError

    connection._outlet = cast(socket.socket, Interrupted())
    with pytest.raises(TimeoutError):
        connection.send(b"one")
    with pytest.raises(ConnectionWrongStateError):
        connection.send(b"two")

    assert drained(ends[1]) == b"one"
    assert not connection._rest

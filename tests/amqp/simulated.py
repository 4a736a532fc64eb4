"""A stream in memory, a clock that moves when somebody waits, and a broker of a few words."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeVar

import pika
from pika import frame, spec
from pika.amqp_object import Method

from attune_mq import BrokerSettings
from attune_mq.amqp import Connection, IoLoop
from attune_mq.amqp.pika_link import PikaLink
from attune_mq.amqp.protocol import ConnectionProtocol
from attune_mq.amqp.runtime import Ready, Runtime, SocketStream, Stream
from tests.messaging.bench import WAIT_S

T = TypeVar("T")
CHANNEL_MAX, FRAME_MAX = 7, 4_096
HEARTBEAT_S = 10
HEARTBEAT = bytes(frame.Heartbeat().marshal())
_PROTOCOL_HEADER_BYTES = 8


def method_frame(channel: int, method: Method) -> bytes:
    encoded: bytes = frame.Method(channel, method).marshal()
    return encoded


class SimulatedTime:
    """A ``Runtime`` whose clock moves by what is waited for on its streams. ``stream``: to whom all
    connect."""

    lock = staticmethod(threading.Lock)
    rlock = staticmethod(threading.RLock)
    event = staticmethod(threading.Event)

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.stream: Stream | None = None

    def monotonic(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return list(items)

    def condition(self, lock: threading.Lock | None = None) -> threading.Condition:
        return threading.Condition(lock)

    def queue(self) -> SimpleQueue[None]:
        return SimpleQueue()

    def thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=target, name=name, daemon=True)

    def connect(self, parameters: pika.connection.Parameters) -> Stream:
        assert self.stream is not None
        return self.stream


class MemoryStream:
    """Takes ``room`` bytes more, without end unless a test says so. :meth:`wait` lets the time
    pass; where there is no ``time``, it waits for another thread."""

    def __init__(self, time: SimulatedTime | None = None) -> None:
        self.is_shareable = True
        self.room = math.inf
        self.sent = b""
        self.unacknowledged = 0
        self.closings = 0
        self.waits = 0
        """How many have begun."""
        self.on_send: Callable[[], None] = _nothing
        """Called after bytes were taken; what it raises, :meth:`send` raises."""
        self.on_receive: Callable[[], None] = _nothing
        self.on_wait: Callable[[], None] = _nothing
        self._time = time
        self._incoming: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._is_waked = False

    def say(self, *data: bytes) -> None:
        """By the peer: one packet each; ``b""`` ends it."""
        with self._changed:
            self._incoming.extend(data)
            self._changed.notify_all()

    def make_room(self, size_bytes: float = math.inf) -> None:
        with self._changed:
            self.room = size_bytes
            self._changed.notify_all()

    def wait_until_waited_on(self, times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.waits >= times, WAIT_S)

    # What a connection calls.

    def receive(self) -> bytes | None:
        self.on_receive()
        with self._changed:
            return self._incoming.popleft() if self._incoming else None

    def send(self, data: bytes) -> int:
        taken = data[: int(min(self.room, len(data)))]
        self.room -= len(taken)
        self.sent += taken
        self.on_send()
        return len(taken)

    def unacknowledged_bytes(self) -> int:
        return self.unacknowledged

    def wait(self, timeout_s: float, *, writable: bool) -> Ready:
        self.on_wait()
        with self._changed:
            self.waits += 1
            self._changed.notify_all()
            if self._time is None:
                ended = self._changed.wait_for(lambda: self._has_news(writable), timeout_s)
            else:
                ended = self._has_news(writable)
                self._time.now_s += 0.0 if ended else timeout_s
            self._is_waked = False
            return Ready(bool(self._incoming), writable and self.room > 0)

    def wake(self) -> None:
        with self._changed:
            self._is_waked = True
            self._changed.notify_all()

    def close(self) -> None:
        self.closings += 1

    def _has_news(self, writable: bool) -> bool:
        return self._is_waked or bool(self._incoming) or (writable and self.room > 0)


def _nothing() -> None: ...


class Broker(MemoryStream):
    """Opens connections and channels, and gives the answer in ``answers`` to each other method
    that has one there. ``heard``: what it was told."""

    def __init__(
        self,
        time: SimulatedTime | None = None,
        *,
        channel_max: int = CHANNEL_MAX,
        heartbeat_s: int = 0,
    ) -> None:
        super().__init__(time)
        self.answers: dict[type[Method], Method] = {
            spec.Connection.StartOk: spec.Connection.Tune(channel_max, FRAME_MAX, heartbeat_s),
            spec.Connection.Open: spec.Connection.OpenOk(),
            spec.Connection.Close: spec.Connection.CloseOk(),
            spec.Channel.Open: spec.Channel.OpenOk(),
            spec.Channel.Close: spec.Channel.CloseOk(),
        }
        self.heard: list[tuple[int, Method]] = []
        self._unread = b""
        self._has_begun = False

    def say_method(self, channel: int, method: Method) -> None:
        self.say(method_frame(channel, method))

    def send(self, data: bytes) -> int:
        taken = super().send(data)
        self._unread += data[:taken]
        if not self._has_begun and len(self._unread) >= _PROTOCOL_HEADER_BYTES:
            self._has_begun = True
            self._unread = self._unread[_PROTOCOL_HEADER_BYTES:]
            self.say_method(0, spec.Connection.Start(0, 9, {"version": "4.0.1"}, "PLAIN", "en_US"))
        self._read()
        return taken

    def _read(self) -> None:
        while True:
            consumed, one = frame.decode_frame(self._unread)
            if one is None:
                return
            self._unread = self._unread[consumed:]
            if isinstance(one, frame.Method):
                self.heard.append((one.channel_number, one.method))
                answer = self.answers.get(type(one.method))
                if answer is not None:
                    of_connection = isinstance(answer, spec.Connection.Close)
                    self.say_method(0 if of_connection else one.channel_number, answer)


def opened_connection(broker: Broker, time: SimulatedTime, *, heartbeat_s: int = 0) -> Connection:
    time.stream = broker
    settings = BrokerSettings(urls=("amqp://guest:guest@simulated/%2F",), heartbeat_s=heartbeat_s)
    return Connection.open(settings, name="tests", runtime=time)


def opened_protocol(*, heartbeat_s: int = 0) -> ConnectionProtocol:
    """As after the handshake, with nothing to be sent."""
    protocol = ConnectionProtocol(PikaLink(pika.ConnectionParameters(heartbeat=heartbeat_s)))
    protocol.link.connect(SimulatedTime().now_s)
    answers: list[Any] = [
        spec.Connection.Start(0, 9, {}, "PLAIN", "en_US"),
        spec.Connection.Tune(CHANNEL_MAX, FRAME_MAX, heartbeat_s),
        spec.Connection.OpenOk(),
    ]
    for answer in answers:
        protocol.receive(method_frame(0, answer))
    protocol.data_to_send()
    return protocol


def is_free(lock: Any) -> bool:
    """For a thread that does not hold it."""
    taken: list[bool] = []

    def try_it() -> None:
        taken.append(lock.acquire(blocking=False))
        with suppress(RuntimeError):
            lock.release()

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join(WAIT_S)
    return taken == [True]


class User:
    """Of a connection. Remembers what it was told; ``on_tick`` and ``on_receive`` do what a test
    has them do."""

    def __init__(self) -> None:
        self.is_busy = False
        self.due_s = math.inf
        self.ticks: list[float] = []
        self.received: list[float] = []
        self.threads: set[str] = set()
        self.on_tick: Callable[[], object] = lambda: None
        self.on_receive: Callable[[], object] = lambda: None

    def tick(self, now_s: float) -> None:
        self.ticks.append(now_s)
        self.threads.add(threading.current_thread().name)
        self.on_tick()

    def receive(self, now_s: float) -> None:
        self.received.append(now_s)
        self.on_receive()


def loop_of(
    stream: MemoryStream | SocketStream, runtime: Runtime, user: User, *, heartbeat_s: int = 0
) -> IoLoop:
    protocol = opened_protocol(heartbeat_s=heartbeat_s)
    return IoLoop(protocol, stream, runtime, user, runtime.rlock())


def drive(loop: IoLoop, time: SimulatedTime, seconds: float) -> None:
    loop.drive_until(lambda: False, time.now_s + seconds, join=True)


def turn(loop: IoLoop) -> None:
    """Sees to what there is, once."""
    turns = count()
    loop.drive_until(lambda: next(turns) == 1, float("inf"), join=True)

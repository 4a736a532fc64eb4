"""The one file that uses what pika keeps to itself, behind :class:`Link`.

pika's ``Connection`` does the handshake, login, tuning, heartbeats, blocking and closing: all of
channel 0. It is written to be subclassed by an adapter for some kind of I/O, and this is one that
does none: bytes go in and come out, and time is passed to it. The names of that interface have an
underscore; ``tests/amqp/test_pika_link.py`` states each with its signature, so that another version
of pika fails there.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import pika
from pika import exceptions as pika_errors, spec
from pika.amqp_object import Method
from pika.connection import Connection as PikaConnection

from attune_mq.amqp.channel_methods import ChannelMethods, Refused
from attune_mq.amqp.protocol import Reply
from attune_mq.errors import BrokerUnavailable


class Link(Protocol):
    """Channel 0 of a connection as a value: no thread, socket or clock. Not safe from several
    threads."""

    blocked: bool
    """The broker takes no messages: an alarm of memory or disk."""
    failure: BaseException | None
    """Why it is over, once it is: an error of pika's."""
    bytes_received: int
    """To be counted by the code that receives: the heartbeat goes by it."""
    frame_max: int
    """Bytes of the largest frame that was agreed on; 0 before."""
    channel_max: int
    version: str
    """Of the broker; ``""`` where it does not say."""
    out: list[bytes]
    """What is to be sent, in order: the code that sends it clears the list."""
    now_s: float
    """The time, set by the code that drives it: timers begin then."""
    due_s: float
    """When :meth:`tick` has something to do next."""

    @property
    def is_open(self) -> bool: ...
    def connect(self, now_s: float) -> None:
        """The stream is up: the handshake begins."""

    def receive(self, frame: bytes) -> None:
        """A frame of channel 0, or what came in place of one."""

    def tick(self) -> None:
        """Heartbeats, and whether the broker's are missing."""

    def close(self) -> None:
        """Asks the broker to; it is over when that agrees."""

    def abandon(self, error: Exception) -> None:
        """It is over, without a closing handshake."""

    def lost(self, error: Exception) -> None:
        """The stream has ended, or failed."""


class _Timer:
    __slots__ = ("at_s", "callback", "number")

    def __init__(self, at_s: float, number: int, callback: Callable[[], Any]) -> None:
        self.at_s = at_s
        self.number = number
        self.callback: Callable[[], Any] | None = callback

    def __lt__(self, other: _Timer) -> bool:
        return (self.at_s, self.number) < (other.at_s, other.number)


class PikaLink(PikaConnection):
    """A :class:`Link` by pika."""

    def __init__(self, parameters: pika.connection.Parameters) -> None:
        self.blocked = False
        self.failure: BaseException | None = None
        self.frame_max = self.channel_max = 0
        self.version = ""
        self.out: list[bytes] = []
        self.now_s = 0.0
        self.due_s = math.inf
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        super().__init__(
            parameters,
            on_open_callback=self._opened_by_broker,
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            internal_connection_workflow=False,
        )

    @property
    def _pika(self) -> Any:
        """Where the type stubs of pika know nothing of a name."""
        return self

    def connect(self, now_s: float) -> None:
        self.now_s = now_s
        self._pika._on_stream_connected()

    def receive(self, frame: bytes) -> None:
        before: int = self._pika.bytes_received
        self._pika._on_data_available(frame)
        self.bytes_received = before  # its caller has counted them

    def tick(self) -> None:
        while self.due_s <= self.now_s:
            callback = heapq.heappop(self._timers).callback
            self._note_due()
            if callback is not None:
                callback()

    def _note_due(self) -> None:
        self.due_s = self._timers[0].at_s if self._timers else math.inf

    def close(self, reply_code: int = 200, reply_text: str = "Normal shutdown") -> None:
        if not (self.is_closing or self.is_closed):
            super().close(reply_code, reply_text)

    def abandon(self, error: Exception) -> None:
        if not self.is_closed:
            self._pika._terminate_stream(error)

    def lost(self, error: Exception) -> None:
        if not self.is_closed:
            self._pika._on_stream_terminated(error)

    def _opened_by_broker(self, _connection: PikaConnection) -> None:
        self.frame_max = int(self.params.frame_max)
        self.channel_max = int(self.params.channel_max or 65_535)
        self.version = str((self.server_properties or {}).get("version", ""))
        self.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        self.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))

    def _set_blocked(self, blocked: bool) -> None:
        self.blocked = blocked

    def _ended(self, _connection: PikaConnection, error: BaseException) -> None:
        self.failure = error

    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> object:
        timer = _Timer(self.now_s + delay, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        self._note_due()
        return timer

    def _adapter_remove_timeout(self, timeout_id: object) -> None:
        cast(_Timer, timeout_id).callback = None

    def _adapter_add_callback_threadsafe(self, callback: Callable[..., Any]) -> None:
        self._adapter_call_later(0, callback)

    def _adapter_connect_stream(self) -> None:
        raise AssertionError("the stream is connected by its owner")

    def _adapter_disconnect_stream(self) -> None:
        self._pika._on_stream_terminated(None)

    def _adapter_emit_data(self, data: bytes) -> None:
        self.out.append(data)


class BorrowedChannel(ChannelMethods):
    """On a connection that other code has opened with pika, whose thread this is; it stays open
    unless the broker does not answer ``within_s``."""

    def __init__(self, connection: pika.BlockingConnection, within_s: float | None = None) -> None:
        self._connection: Any = connection
        self._within_s = math.inf if within_s is None else within_s
        with _ours(connection):
            channel: Any = connection.channel()
        self._channel = channel
        self._closed: Refused | None = None
        self._is_asking = False  # also after an interruption: the answer may be still to come
        self._impl: Any = channel._impl
        self._impl.add_on_close_callback(self._on_close)

    @property
    def is_open(self) -> bool:
        return bool(self._channel.is_open) and not self._is_asking

    @property
    def version(self) -> str:
        return str((self._connection._impl.server_properties or {}).get("version", ""))

    def close(self) -> None:
        if self.is_open:
            with _ours(self._connection):
                self._channel.close()

    def ask_all(self, methods: Sequence[Method]) -> list[Reply]:
        replies: list[Reply] = []
        self._is_asking = True
        with _ours(self._connection), expected_refusals():
            for method in methods:
                answer = getattr(spec, method.NAME.partition(".")[0])
                answer = getattr(answer, method.NAME.partition(".")[2] + "Ok")
                self._impl._rpc(method, lambda frame: replies.append(frame.method), [answer])
            until_s = time.monotonic() + self._within_s
            while len(replies) < len(methods) and self._closed is None:
                self._wait(until_s)
        self._is_asking = False
        if self._closed is not None:
            raise self._closed
        return replies

    def _wait(self, until_s: float) -> None:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            reason = f"the broker did not answer for {self._within_s:g} s"
            self._connection._impl._terminate_stream(pika_errors.AMQPHeartbeatTimeout(reason))
        self._connection.process_data_events(time_limit=max(0.0, min(1.0, left_s)))

    def _on_close(self, _channel: object, error: Exception) -> None:
        if isinstance(error, pika_errors.ChannelClosedByBroker):
            self._closed = Refused(error.reply_code, error.reply_text)


@contextmanager
def _ours(connection: pika.BlockingConnection) -> Iterator[None]:
    try:
        yield
    except pika_errors.ConnectionClosedByBroker as error:
        raise Refused(error.reply_code, error.reply_text, is_connection=True) from error
    except (pika_errors.AMQPError, OSError) as error:
        if isinstance(error, TimeoutError) and error.errno is None:  # a time limit of the caller
            raise
        raise BrokerUnavailable(
            f"the connection was lost: {error or type(error).__name__}"
        ) from error


@contextmanager
def expected_refusals() -> Iterator[None]:
    """pika warns of every channel that the broker closes. Where that is an answer that was asked
    for, and is reported by us, the warning would say it twice."""
    here = threading.get_ident()

    def is_of_another(record: logging.LogRecord) -> bool:
        return record.thread != here

    pikas = logging.getLogger("pika.channel")
    pikas.addFilter(is_of_another)
    try:
        yield
    finally:
        pikas.removeFilter(is_of_another)

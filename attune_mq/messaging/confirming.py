"""A connection that publishes with confirms, on a thread of its own.

One pika ``SelectConnection`` with one channel in confirm mode. Callers on any thread hand over
messages and wait for their outcome; this thread sends them, as many in flight as the limit allows,
and resolves each exactly once. It reconnects, with a jittered pause between attempts.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Iterable

import pika
from pika import exceptions as pika_errors
from pika import spec
from pika.channel import Channel
from pika.connection import Connection
from pika.frame import Method

from attune_mq.broker.amqp import connection_failure
from attune_mq.broker.settings import BrokerSettings
from attune_mq.errors import AttuneError, BrokerUnavailable, PublishError
from attune_mq.messaging.backoff import Backoff
from attune_mq.messaging.outgoing import MAX_HEADER_BYTES, Entry, Ledger

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 1_000
"""Messages sent and not confirmed. More do not make it faster (measured); they cost memory."""


class LoginFailed(PublishError):
    """The broker refuses the connection itself; ``__cause__`` says why."""


class ConfirmingConnection:
    """Start it, hand it entries, close it. All public methods are safe from any thread."""

    def __init__(self, settings: BrokerSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._lock = threading.Lock()
        self._waiting: deque[Entry] = deque()
        self._wake_scheduled = False
        self._closing = threading.Event()
        self._connection: pika.SelectConnection | None = None
        self._channel: Channel | None = None
        self._ledger = Ledger()
        self._last_failure: AttuneError | None = None
        self._blocked = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, entries: Iterable[Entry]) -> None:
        """Queues entries; each is resolved later, unless :meth:`abandon` comes first."""
        with self._lock:
            self._waiting.extend(entries)
        self._wake()

    def abandon(self, entries: Iterable[Entry], reason: str) -> None:
        """The caller no longer waits. What was not sent never will be; all become unconfirmed."""
        with self._lock:
            for entry in entries:
                entry.abandoned = True
                entry.unconfirmed(reason, self._last_failure)

    @property
    def trouble(self) -> str | None:
        """Why nothing is being confirmed just now, if something is known of it."""
        if self._blocked:
            return "the broker blocks publishers (memory or disk alarm)"
        if self._channel is None or not self._channel.is_open:
            return str(self._last_failure or "the connection is not open yet")
        return None

    @property
    def unconfirmed_count(self) -> int:
        return len(self._ledger) + len(self._waiting)

    def close(self, timeout_s: float) -> None:
        """Ends the thread. What is in flight or waiting is reported as unconfirmed."""
        self._closing.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.ioloop.add_callback_threadsafe(self._close_connection)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._fail_all("the publisher was closed")

    # On the thread of the connection, from here on.

    def _run(self) -> None:
        backoff = Backoff()
        while not self._closing.is_set():
            opened = self._run_connection()
            self._fail_in_flight("the connection was lost")
            if self._last_failure is not None and not self._is_passing(self._last_failure):
                self._refuse_waiting(self._last_failure)
            if opened:
                backoff.reset()
            self._closing.wait(backoff.next_s())

    def _run_connection(self) -> bool:
        """One connection from its opening to its end; whether it was ever usable."""
        url = random.choice(self._settings.urls)
        self._channel = None
        self._blocked = False
        opened: list[bool] = []

        def on_open(connection: Connection) -> None:
            opened.append(True)
            connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
            connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
            connection.channel(on_open_callback=self._on_channel_open)

        def on_end(_connection: Connection, error: BaseException) -> None:
            failure = connection_failure(error, url)
            if not self._closing.is_set() and str(failure) != str(self._last_failure):
                logger.warning("Publisher '%s': %s", self._name, failure)
            self._last_failure = failure
            selecting.ioloop.stop()

        selecting = self._connection = pika.SelectConnection(
            self._settings.parameters(url, name=self._name),
            on_open_callback=on_open,
            on_open_error_callback=on_end,
            on_close_callback=on_end,
        )
        try:
            selecting.ioloop.start()
        except Exception:  # a defect, here or in pika, must not end publishing
            logger.exception("Publisher '%s': its connection failed", self._name)
        finally:
            with self._lock:
                self._connection = None
            self._channel = None
            selecting.ioloop.close()
        return bool(opened)

    def _on_channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, lambda _: self._on_ready(channel))

    def _on_ready(self, channel: Channel) -> None:
        self._channel = channel
        self._last_failure = None
        self._flush()

    def _on_channel_closed(self, channel: Channel, error: Exception) -> None:
        """Exchange missing, not permitted, message too large: the broker names it in its text."""
        if self._channel is channel:
            self._channel = None
        if not isinstance(error, pika_errors.ChannelClosedByBroker):
            return
        self._blame(error.reply_code, error.reply_text)
        connection = channel.connection
        if connection.is_open and not self._closing.is_set():
            connection.channel(on_open_callback=self._on_channel_open)

    def _blame(self, code: int, text: str) -> None:
        """Those that the broker's reason fits are refused; of the others nothing is known."""
        entries = self._ledger.drain()
        named = [entry for entry in entries if f"exchange '{entry.message.exchange}'" in text]
        if "message size" in text:
            largest = max(len(entry.message.body) for entry in entries) if entries else 0
            named = [entry for entry in entries if len(entry.message.body) == largest]
        for entry in entries:
            if entry in named or len(entries) == 1:
                entry.refused(f"{code} {text}")
            else:
                entry.unconfirmed("the channel was closed because of another message")

    def _on_return(
        self,
        _channel: Channel,
        method: spec.Basic.Return,
        properties: spec.BasicProperties,
        _body: bytes,
    ) -> None:
        why = f"{method.reply_code} {method.reply_text}"
        self._ledger.returned(properties.message_id, method.exchange, method.routing_key, why)

    def _on_confirm(self, frame: Method[spec.Basic.Ack | spec.Basic.Nack]) -> None:
        confirm = frame.method
        settled = self._ledger.settle(confirm.delivery_tag, multiple=confirm.multiple)
        if isinstance(confirm, spec.Basic.Ack):
            for entry in settled:
                entry.confirmed()
        else:
            for entry in settled:
                entry.refused("a queue is full or cannot take it (basic.nack)")
        if self._waiting:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            self._wake_scheduled = False
            while self._waiting and self._can_send():
                entry = self._waiting.popleft()
                if not entry.abandoned:
                    self._send(entry)

    def _can_send(self) -> bool:
        channel = self._channel
        is_open = channel is not None and channel.is_open
        return is_open and not self._blocked and len(self._ledger) < MAX_IN_FLIGHT

    def _send(self, entry: Entry) -> None:
        assert self._channel is not None
        message = entry.message
        if not message.fits_a_frame():
            entry.refused(f"its headers exceed {MAX_HEADER_BYTES:,} bytes, a frame of AMQP")
            return
        try:
            self._channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                message.properties,
                mandatory=message.mandatory,
            )
        except (pika_errors.AMQPError, ValueError, TypeError, AssertionError) as error:
            # pika encodes the whole message before it writes any of it: nothing was sent.
            entry.refused(f"it cannot be sent over AMQP: {type(error).__name__}: {error}")
        else:
            self._ledger.record(entry)

    def _wake(self) -> None:
        with self._lock:
            connection = self._connection
            if connection is None or self._wake_scheduled:
                return
            self._wake_scheduled = True
            connection.ioloop.add_callback_threadsafe(self._flush)

    def _set_blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        said = "blocks publishers (memory or disk alarm)" if blocked else "takes messages again"
        logger.warning("Publisher '%s': the broker %s", self._name, said)
        if not blocked:
            self._flush()

    def _close_connection(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_open:
            connection.close()
        elif connection is not None:
            connection.ioloop.stop()

    def _fail_in_flight(self, reason: str) -> None:
        with self._lock:
            self._wake_scheduled = False
            for entry in self._ledger.drain():
                entry.unconfirmed(f"{reason}: {self._last_failure}", self._last_failure)

    @staticmethod
    def _is_passing(failure: AttuneError) -> bool:
        return isinstance(failure, BrokerUnavailable)

    def _refuse_waiting(self, failure: AttuneError) -> None:
        """Wrong password, no such virtual host: waiting does not mend it."""
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
        for entry in waiting:
            error = LoginFailed(f"{entry.message}: not sent: {failure}")
            error.__cause__ = failure
            entry.failed(error)

    def _fail_all(self, reason: str) -> None:
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
        for entry in (*waiting, *self._ledger.drain()):
            entry.unconfirmed(reason)

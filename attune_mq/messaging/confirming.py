"""A connection that publishes with confirms, on a thread of its own.

One pika ``SelectConnection`` with one channel in confirm mode. Callers on any thread hand over
messages and wait for their outcome; this thread sends them, as many in flight as the limit allows,
and resolves each exactly once. It reconnects, with a jittered pause between attempts.

If the power fails: here, then whoever handed a message over has no receipt and still owns it. At
the broker, then what it confirmed is on its disk, and what it did not confirm is reported as
unconfirmed when the connection is found to be lost, or when the caller's deadline passes before.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import cast

from pika import exceptions as pika_errors, spec
from pika.channel import Channel
from pika.connection import Connection

from attune_mq.broker.amqp import connection_failure
from attune_mq.broker.settings import BrokerSettings
from attune_mq.errors import AttuneError, BrokerUnavailable
from attune_mq.messaging.backoff import LONGEST_PAUSE_S, Backoff
from attune_mq.messaging.direct import DirectConnection
from attune_mq.messaging.frames import Confirm, ConfirmReader, content, publish_method
from attune_mq.messaging.outgoing import Entry, Ledger, Outgoing, Unsendable
from attune_mq.messaging.silence import SILENT_AFTER_S, Silence
from attune_mq.messaging.telemetry import Telemetry

logger = logging.getLogger(__name__)

CLOSING_S = 1.0
"""How long the broker may take to agree that the connection is closed."""
DOUBT_S = 1.0
"""The least age of a channel that is replaced because of a nack."""
DRAIN_S = 5.0
"""How long it is waited for what is in flight on a channel that is to be replaced."""
_DEFAULT_EXCHANGE = "amq.default"
"""What the broker calls the default exchange when it names it."""


class ConfirmingConnection:
    """Start it, hand it entries, close it. All public methods are safe from any thread."""

    def __init__(
        self, settings: BrokerSettings, *, name: str, telemetry: Telemetry | None = None
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._name = name
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closing = threading.Event()
        self._lock = threading.Lock()  # for all that follows
        self._waiting: deque[Entry] = deque()
        self._ledger = Ledger()
        self._wake_scheduled = False
        self._connection: DirectConnection | None = None
        self._channel: Channel | None = None
        self._channel_opened_at = 0.0
        self._replacing = False
        self._blocked = False
        self._heard_at_s = 0.0  # when the broker last confirmed, or began to owe a confirm
        self._last_failure: AttuneError | None = None
        self._said: set[str] = set()
        self.connections = 0
        """How many have been opened so far."""

    def start(self) -> None:
        self._thread.start()

    def submit(self, entries: Iterable[Entry]) -> None:
        """Queues entries; each is resolved later, unless :meth:`abandon` comes first."""
        with self._lock:
            if not self._closing.is_set():
                self._waiting.extend(entries)
                self._wake()
                return
        for entry in entries:
            entry.unconfirmed("the publisher is closed")

    def abandon(self, entries: Iterable[Entry], reason: str) -> None:
        """The caller no longer waits. What was not sent never will be; all become unconfirmed."""
        with self._lock:
            for entry in entries:
                entry.abandoned = True
                entry.unconfirmed(reason, self._last_failure)
            self._waiting = deque(entry for entry in self._waiting if not entry.abandoned)
            if self._ledger.is_full_of_abandoned and self._connection is not None:
                logger.warning("Publisher '%s': nothing is confirmed, it reconnects", self._name)
                self._connection.ioloop.add_callback_threadsafe(self._close_connection)

    @property
    def trouble(self) -> str | None:
        """Why nothing is being confirmed just now, if something is known of it."""
        with self._lock:
            if self._blocked:
                return "the broker blocks publishers (memory or disk alarm)"
            if self._channel is None or not self._channel.is_open:
                return str(self._last_failure or "the connection is not open yet")
            since_s = self._silent_since_s()
            if since_s is not None and time.monotonic() - since_s > SILENT_AFTER_S:
                return f"{len(self._ledger)} messages wait for a confirm, the last came long ago"
            return None

    def _silent_since_s(self) -> float | None:
        """Since when the broker owes a confirm and has sent none, though it reads."""
        return self._heard_at_s if len(self._ledger) and not self._blocked else None

    @property
    def unconfirmed_count(self) -> int:
        with self._lock:
            return len(self._ledger) + len(self._waiting)

    def close(self, timeout_s: float) -> None:
        """Ends the thread. What is in flight or waiting is reported as unconfirmed."""
        with self._lock:
            self._closing.set()
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(self._close_connection)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._lock:
            entries = [*self._waiting, *self._ledger.drain()]
            self._waiting.clear()
        for entry in entries:
            entry.unconfirmed("the publisher is closed")

    def _wake(self) -> None:
        """With the lock held."""
        if self._connection is not None and not self._wake_scheduled:
            self._wake_scheduled = True
            self._connection.ioloop.add_callback_threadsafe(self._flush)

    # On the thread of the connection, from here on.

    def _run(self) -> None:
        backoff = Backoff()
        while not self._closing.is_set():
            try:
                if self._try_each_host() > LONGEST_PAUSE_S:
                    backoff.reset()
            except Exception:  # a defect, here or in pika, must not end publishing
                logger.exception("Publisher '%s': its connection failed", self._name)
            self._closing.wait(backoff.next_s())

    def _try_each_host(self) -> float:
        """Until one takes messages and is lost again; for how many seconds it did.

        A host that refuses us (wrong password, no such virtual host, no trust) is an outcome for
        those who wait, unless another takes us: waiting does not mend it.
        """
        refusals: list[AttuneError] = []
        for url in random.sample(self._settings.urls, len(self._settings.urls)):
            opened = self.connections
            started_at = time.monotonic()
            failure = self._run_connection(url)
            self._lost(failure, was_open=self.connections > opened)
            if self._closing.is_set() or self.connections > opened:
                return time.monotonic() - started_at
            if not isinstance(failure, BrokerUnavailable):
                refusals.append(failure)
        if refusals:
            self._fail_waiting(refusals[0])
        return 0.0

    def _run_connection(self, url: str) -> AttuneError:
        """One connection from its opening to its end, and why it ended."""
        failure: AttuneError = BrokerUnavailable("the broker does not answer")

        def on_end(_connection: Connection, error: BaseException) -> None:
            nonlocal failure
            failure = connection_failure(error, url, self._settings)
            selecting.ioloop.stop()

        try:
            parameters = self._settings.parameters(url, name=self._name)
        except AttuneError as error:  # a file with a password or a certificate
            return error
        selecting = DirectConnection(
            parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=on_end,
            on_close_callback=on_end,
        )
        with self._lock:
            self._connection = selecting
            if self._closing.is_set():  # it was set when there was no connection to close
                selecting.ioloop.add_callback_threadsafe(self._close_connection)
        try:
            selecting.ioloop.start()
        finally:
            with self._lock:
                self._connection = self._channel = None
                self._blocked = self._wake_scheduled = False
            selecting.ioloop.close()
        return failure

    def _on_open(self, connection: Connection) -> None:
        self.connections += 1
        if self._telemetry is not None:
            self._telemetry.connection_opened(self._name)
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._on_channel_open)
        Silence(cast(DirectConnection, connection), self._silent_since_s).watch()

    def _on_channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(_never_called, lambda _: self._on_ready(channel))
        connection = cast(DirectConnection, channel.connection)
        connection.read_with(ConfirmReader(channel.channel_number), self._on_confirms)

    def _on_ready(self, channel: Channel) -> None:
        with self._lock:
            if self._last_failure is not None:
                logger.info("Publisher '%s' is connected again", self._name)
            self._channel = channel
            self._channel_opened_at = time.monotonic()
            self._replacing = False
            self._last_failure = None
            self._said.clear()
        self._flush()

    def _on_channel_closed(self, channel: Channel, error: Exception) -> None:
        """Exchange missing, not permitted, message too large: the broker names it in its text."""
        if not isinstance(error, pika_errors.ChannelClosedByBroker):
            return
        self._blame(error.reply_code, error.reply_text)
        if channel.connection.is_open and not self._closing.is_set():
            channel.connection.channel(on_open_callback=self._on_channel_open)

    def _blame(self, code: int, text: str) -> None:
        """Those that the broker's reason fits are refused; of the others nothing is known."""
        with self._lock:
            self._channel = None
            entries = self._ledger.drain()
        largest = max((len(entry.message.body) for entry in entries), default=0)
        for entry in entries:
            exchange = entry.message.exchange or _DEFAULT_EXCHANGE
            too_large = "message size" in text and len(entry.message.body) == largest
            if too_large or f"exchange '{exchange}'" in text or len(entries) == 1:
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
        with self._lock:
            self._ledger.returned(properties.message_id, method.exchange, method.routing_key, why)

    def _on_confirms(self, confirms: list[Confirm]) -> None:
        with self._lock:
            settled = [(one, self._ledger.settle(one)) for one in confirms]
            self._heard_at_s = time.monotonic()
        for confirm, entries in settled:
            for entry in entries:
                if confirm.is_ack:
                    entry.confirmed()
                else:
                    entry.refused("a queue is full or cannot take it (basic.nack)")
        if not all(confirm.is_ack for confirm in confirms):
            self._doubt(self._channel)
        if self._replacing and not self._ledger:
            self._replace(self._channel)
        self._flush()

    def _doubt(self, channel: Channel | None) -> None:
        """A channel of RabbitMQ 3.10 that first publishes to a quorum queue while that elects a
        leader is nacked for ever (measured); a new one is not. A full queue nacks too, and a new
        channel changes nothing of that, so it is not tried more often than every ``DOUBT_S``."""
        age_s = time.monotonic() - self._channel_opened_at
        if channel and self._connection and not self._replacing and age_s > DOUBT_S:
            self._replacing = True
            self._connection.ioloop.call_later(DRAIN_S, lambda: self._replace(channel))

    def _replace(self, channel: Channel | None) -> None:
        """Once all that is in flight is settled, or has taken too long."""
        with self._lock:
            if channel is None or channel is not self._channel or not self._replacing:
                return
            self._channel = None
            entries = self._ledger.drain()
        for entry in entries:
            entry.unconfirmed("the channel was replaced, since the broker refused others on it")
        if channel.is_open:
            channel.close()
            channel.connection.channel(on_open_callback=self._on_channel_open)

    def _flush(self) -> None:
        with self._lock:
            self._wake_scheduled = False
            frames: list[bytes] = []
            while self._waiting and self._can_send():
                frames += self._record(self._waiting.popleft())
            if frames:
                assert self._connection is not None
                self._connection.send(b"".join(frames))

    def _can_send(self) -> bool:
        is_open = self._channel is not None and self._channel.is_open
        held = self._blocked or self._replacing
        return is_open and not held and not self._ledger.is_full

    def _record(self, entry: Entry) -> Iterator[bytes]:
        """The frames of a message, which counts as sent; none where it cannot be."""
        try:
            frames = self._frames(entry.message)
        except Unsendable as error:
            entry.refused(str(error))
            return
        if not len(self._ledger):
            self._heard_at_s = time.monotonic()
        self._ledger.record(entry)
        yield from frames

    def _frames(self, message: Outgoing) -> tuple[bytes, bytes]:
        """Raises :class:`Unsendable`."""
        assert self._channel is not None
        assert self._connection is not None
        number = self._channel.channel_number
        properties = message.encoded_properties()
        try:
            method = publish_method(
                number, message.exchange, message.routing_key, mandatory=message.mandatory
            )
        except ValueError as error:
            raise Unsendable.because(error) from error
        frame_bytes = self._connection.frame_bytes
        return method, content(number, properties, message.body, frame_bytes=frame_bytes)

    def _set_blocked(self, blocked: bool) -> None:
        with self._lock:
            self._blocked = blocked
            self._heard_at_s = time.monotonic()
        said = "blocks publishers (memory or disk alarm)" if blocked else "takes messages again"
        logger.warning("Publisher '%s': the broker %s", self._name, said)
        if self._telemetry is not None:
            self._telemetry.connection_blocked(self._name, blocked)
        self._flush()

    def _close_connection(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closing or connection.is_closed:
            return
        with contextlib.suppress(pika_errors.AMQPError):
            connection.close()
        connection.ioloop.call_later(CLOSING_S, connection.ioloop.stop)  # where nobody answers

    def _lost(self, failure: AttuneError, *, was_open: bool) -> None:
        """Said once for each reason until it is connected again, not for each attempt."""
        with self._lock:
            entries = self._ledger.drain()
            self._last_failure = failure
            is_news = str(failure) not in self._said and not self._closing.is_set()
            self._said.add(str(failure))
        if is_news:
            logger.warning("Publisher '%s': %s", self._name, failure)
        if was_open and self._telemetry is not None and not self._closing.is_set():
            self._telemetry.connection_lost(self._name, str(failure))
        for entry in entries:
            entry.unconfirmed(f"the connection was lost: {failure}", failure)

    def _fail_waiting(self, failure: AttuneError) -> None:
        with self._lock:
            entries = list(self._waiting)
            self._waiting.clear()
        for entry in entries:
            entry.unconfirmed(f"not sent: {failure}", failure)


def _never_called(*_: object) -> None:
    """pika wants a callback; confirms go another way."""
    raise AssertionError("a confirm came by way of pika's callback")

"""A connection that publishes with confirms.

One pika ``SelectConnection`` with one channel in confirm mode. Callers on any thread send their
messages over it, as many in flight as the limits allow, and wait; whoever turns its loop resolves
each exactly once, and sends what had to wait.

If the power fails: here, then whoever handed a message over has no receipt and still owns it. At
the broker, then what it confirmed is on its disk, and what it did not confirm is reported as
unconfirmed when the connection is found to be lost, or when the caller's deadline passes before.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

from pika import exceptions as pika_errors, spec
from pika.channel import Channel

from attune_mq.broker.amqp import abandon
from attune_mq.broker.settings import BrokerSettings
from attune_mq.errors import AttuneError, BrokerUnavailable, NotConfirmed
from attune_mq.forking import after_fork
from attune_mq.messaging.direct import DirectConnection, never_called
from attune_mq.messaging.frames import Confirm, ConfirmReader
from attune_mq.messaging.outgoing import (
    Batch,
    Entry,
    Ledger,
    Outcome,
    Outgoing,
    Unsendable,
    blamed,
)
from attune_mq.messaging.reconnecting import Reconnecting
from attune_mq.messaging.shared_loop import give_back
from attune_mq.messaging.silence import SILENT_AFTER_S, Silence
from attune_mq.messaging.telemetry import Telemetry

logger = logging.getLogger(__name__)

DOUBT_S = 1.0
"""The least age of a channel that is replaced because of a nack."""
DRAIN_S = 5.0
"""How long it is waited for what is in flight on a channel that is to be replaced."""


CLOSED = "the publisher is closed"
ABORT_ATTEMPTS = 10
"""Of a thread that is interrupted again and again, as by an interval timer."""


class ConfirmingConnection:
    """Exchange messages for outcomes, close it. From any thread.

    A thread that is interrupted within :meth:`exchange` may have been anywhere: between counting a
    message and sending it, or between reading a confirm and giving it to its caller. So the
    interruption ends the connection, everything in flight on it becomes unconfirmed, and the next
    exchange opens another: commit or kill the connection, in one place.

    In a fork it begins anew, with a connection of its own and none of the parent's messages.
    """

    def __init__(
        self, settings: BrokerSettings, *, name: str, telemetry: Telemetry | None = None
    ) -> None:
        self._telemetry = telemetry
        self._settings = settings
        self._name = name
        self._closed = False
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._reconnecting = Reconnecting(self._settings, self, name=self._name)
        self._lock = threading.RLock()  # for all that follows, and whatever is sent
        self._callers: set[int] = set()  # the threads that exchange
        self._batches: set[Batch] = set()  # what they wait for
        self._waiting: deque[Entry] = deque()
        self._ledger = Ledger()
        self._connection: DirectConnection | None = None
        self._channel: Channel | None = None
        self._channel_opened_at = 0.0
        self._replacing = False
        self._blocked = False
        self._heard_at_s = 0.0  # when the broker last confirmed, or began to owe a confirm
        self._last_failure: AttuneError | None = None
        self._said: set[str] = set()
        self.unexpected_confirms = 0

    @property
    def connections(self) -> int:
        """How many have been opened so far."""
        return self._reconnecting.opened

    def exchange(self, messages: Sequence[Outgoing], timeout_s: float) -> list[Outcome]:
        """Sends the messages, and returns an outcome for each, in order, when the last is known or
        the deadline is over. Raises nothing but what interrupts it, see above.

        Within itself (by a signal handler, or by telemetry) it sends nothing: the state is in the
        midst of a change, and whoever could finish that waits for this call.
        """
        caller = threading.get_ident()
        if caller in self._callers or caller == self._reconnecting.thread_id:
            return [_nested(message) for message in messages]
        batch = Batch(messages)
        try:
            self._submit(batch, caller)
            if not self._wait(batch, timeout_s):
                trouble = self.trouble or "the broker has not answered"
                self._abandon(batch, f"no confirm within {timeout_s:g} s: {trouble}")
            return self._end(batch, caller)
        except BaseException as interruption:
            self._abort(batch, caller, interruption)
            raise

    def _submit(self, batch: Batch, caller: int) -> None:
        """Sends its messages, or has them wait for their turn; each is resolved later, unless
        :meth:`_abandon` comes first."""
        with self._lock:
            self._callers.add(caller)
            self._batches.add(batch)
            if self._closed:
                for entry in batch.entries:
                    entry.unconfirmed(CLOSED)
                return
            if not self._reconnecting.has_started:
                self._heard_at_s = time.monotonic()
                self._reconnecting.start()
            self._waiting.extend(batch.entries)
            self._flush()

    def _wait(self, batch: Batch, timeout_s: float) -> bool:
        """Whether all of it is resolved by then."""
        until_s = time.monotonic() + timeout_s
        self._reconnecting.turn_while(lambda: batch.is_pending, until_s)
        return batch.wait(max(0.0, until_s - time.monotonic()))

    def _abandon(self, batch: Batch, reason: str) -> None:
        """The caller no longer waits. What was not sent never will be; all become unconfirmed."""
        with self._lock:
            self._take_back(batch)
            for entry in batch.entries:
                entry.unconfirmed(reason, self._last_failure)
            if self._ledger.is_full_of_abandoned and self._connection is not None:
                logger.warning("Publisher '%s': nothing is confirmed, it reconnects", self._name)
                self._reconnecting.drop()

    def _end(self, batch: Batch, caller: int) -> list[Outcome]:
        with self._lock:
            self._batches.discard(batch)
            self._callers.discard(caller)
            return batch.end()

    def _abort(self, batch: Batch, caller: int, interruption: BaseException) -> None:
        """By the thread that was interrupted. It may be interrupted in this, too."""
        why = BrokerUnavailable(
            f"the connection was given up, since a caller was interrupted "
            f"({type(interruption).__name__})"
        )
        for _ in range(ABORT_ATTEMPTS):
            try:
                self._reconnecting.abort(why)
                give_back(self._lock)
                with self._lock:
                    self._connection = self._channel = None
                    self._ledger.drain()
                    self._take_back(batch)
                    waiting = frozenset(self._waiting)
                    for one in self._batches | {batch}:
                        one.fail(str(why), why, but=waiting)
                    self._end(batch, caller)
                return
            except BaseException as again:
                interruption = again

    def _take_back(self, batch: Batch) -> None:
        """What of it was not sent never will be."""
        for entry in batch.entries:
            entry.abandoned = True
        self._waiting = deque(entry for entry in self._waiting if not entry.abandoned)

    @property
    def trouble(self) -> str | None:
        """Why nothing is being confirmed just now, if something is known of it."""
        with self._lock:
            if self._closed or not self._reconnecting.has_started:
                return None
            if self._blocked:
                return "the broker blocks publishers (memory or disk alarm)"
            is_open = self._channel is not None and self._channel.is_open
            if not is_open and self._last_failure is not None:
                return str(self._last_failure)
            since_s = self._silent_since_s()
            if since_s is None or time.monotonic() - since_s < SILENT_AFTER_S:
                return None  # a connection that is being opened is no trouble yet
            if not is_open:
                return "the connection is not open yet"
            return f"{len(self._ledger)} messages wait for a confirm, the last came long ago"

    def _silent_since_s(self) -> float | None:
        """Since when the broker owes an answer and has sent none, though it reads."""
        owes = len(self._ledger) or self._channel is None or self._replacing
        return self._heard_at_s if owes and not self._blocked else None

    @property
    def unconfirmed_count(self) -> int:
        with self._lock:
            return len(self._ledger) + len(self._waiting)

    def close(self, timeout_s: float) -> None:
        """Ends the thread. What is in flight or waiting is reported as unconfirmed."""
        self._closed = True
        self._reconnecting.close(timeout_s)
        with self._lock:
            entries = [*self._waiting, *self._ledger.drain()]
            self._waiting.clear()
            for entry in entries:
                entry.unconfirmed(CLOSED)

    # What a connection asks of its tenant. From here on, by whoever turns the loop.

    def is_busy(self) -> bool:
        """Whether messages are in flight or waiting, or a channel is being opened or closed."""
        unsettled = len(self._ledger) or len(self._waiting)
        return bool(unsettled) or self._channel is None or self._reconnecting.is_closing

    def on_open(self, connection: DirectConnection) -> None:
        connection.exclusive = self._lock
        self._connection = connection
        self._heard_at_s = time.monotonic()
        if self._telemetry is not None:
            self._telemetry.connection_opened(self._name)
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._on_channel_open)
        Silence(connection, self._silent_since_s, lambda: self._channel).watch()

    def on_lost(self, failure: AttuneError, *, was_open: bool) -> None:
        """Said once for each reason until it is connected again, not for each attempt."""
        with self._lock:
            self._connection = self._channel = None
            self._blocked = self._replacing = False
            self._last_failure = failure
            is_closing = self._reconnecting.is_closing
            is_news = str(failure) not in self._said and not is_closing
            self._said.add(str(failure))
            for entry in self._ledger.drain():
                entry.unconfirmed(f"the connection was lost: {failure}", failure)
        if is_news:
            logger.warning("Publisher '%s': %s", self._name, failure)
        if was_open and self._telemetry is not None and not is_closing:
            self._telemetry.connection_lost(self._name, str(failure))

    def on_refused(self, failure: AttuneError) -> None:
        with self._lock:
            entries = list(self._waiting)
            self._waiting.clear()
            for entry in entries:
                entry.unconfirmed(f"not sent: {failure}", failure)

    def _on_channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(never_called, lambda _: self._on_ready(channel))
        connection = cast(DirectConnection, channel.connection)
        connection.read_with(ConfirmReader(channel.channel_number), self._on_confirms)

    def _on_ready(self, channel: Channel) -> None:
        with self._lock:
            if channel.connection is not self._connection:
                return  # a caller was interrupted meanwhile
            if self._last_failure is not None:
                logger.info("Publisher '%s' is connected again", self._name)
            self._channel = channel
            self._channel_opened_at = time.monotonic()
            self._replacing = False
            self._last_failure = None
            self._said.clear()
        self._flush()

    def _on_channel_closed(self, channel: Channel, error: Exception) -> None:
        """By the broker: exchange missing, not permitted, message too large, which it names in its
        text. By us: it is to be replaced, and all confirms that were to come have come."""
        if not isinstance(error, pika_errors.ChannelClosed):
            return  # the connection is lost
        with self._lock:
            if channel.connection is not self._connection:
                return  # a caller was interrupted meanwhile
            self._channel = None
            self._heard_at_s = time.monotonic()
            entries = self._ledger.drain()
            if isinstance(error, pika_errors.ChannelClosedByBroker):
                self._blame(entries, error.reply_code, error.reply_text)
            else:
                for entry in entries:
                    entry.unconfirmed("the channel was replaced, as others were refused on it")
        if channel.connection.is_open and not self._reconnecting.is_closing:
            channel.connection.channel(on_open_callback=self._on_channel_open)

    @staticmethod
    def _blame(entries: list[Entry], code: int, text: str) -> None:
        """Those that the broker's reason fits are refused; of the others nothing is known."""
        to_blame = blamed(entries, text)
        for entry in entries:
            if entry in to_blame:
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
            unexpected = sum(not self._settle(confirm) for confirm in confirms)
            self._heard_at_s = time.monotonic()
        if unexpected:
            self._distrust(unexpected)
            return
        if not all(confirm.is_ack for confirm in confirms):
            self._doubt(self._channel)
        if self._replacing and not self._ledger:
            self._replace(self._channel)
        self._flush()

    def _settle(self, confirm: Confirm) -> bool:
        """Whether somebody waits for it."""
        entries = self._ledger.settle(confirm)
        for entry in entries:
            if confirm.is_ack:
                entry.confirmed()
            else:
                entry.refused("a queue is full or cannot take it (basic.nack)")
        return bool(entries)

    def _distrust(self, unexpected: int) -> None:
        """The broker confirms what was not sent, or twice: it does not count messages as we do,
        so each further confirm might be another message's."""
        self.unexpected_confirms += unexpected
        if self._telemetry is not None:
            self._telemetry.unexpected_confirms(self._name, unexpected)
        connection = self._connection
        if connection is not None:
            abandon(connection, "the broker confirmed a message that was not sent")

    def _doubt(self, channel: Channel | None) -> None:
        """A channel of RabbitMQ 3.10 that first publishes to a quorum queue while that elects a
        leader is nacked for ever (measured); a new one is not. A full queue nacks too, and a new
        channel changes nothing of that, so it is not tried more often than every ``DOUBT_S``."""
        age_s = time.monotonic() - self._channel_opened_at
        if channel and self._connection and not self._replacing and age_s > DOUBT_S:
            self._replacing = True
            self._connection.ioloop.call_later(DRAIN_S, lambda: self._replace(channel))

    def _replace(self, channel: Channel | None) -> None:
        """Once all that is in flight is settled, or has taken too long. Confirms that come before
        the broker agrees to the closing count; another channel is opened after it has."""
        with self._lock:
            is_due = channel is not None and channel is self._channel and self._replacing
        if is_due and channel is not None and channel.is_open:
            channel.close()

    def _flush(self) -> None:
        """Sends what waits, as much as may be in flight. From any thread."""
        with self._lock:
            frames: list[bytes] = []
            while self._waiting and self._can_send():
                frames.append(self._record(self._waiting.popleft()))
            if any(frames):
                assert self._connection is not None
                # One that is just ending tells so itself, of all that it was given.
                with contextlib.suppress(pika_errors.ConnectionWrongStateError):
                    self._connection.send(b"".join(frames))

    def _can_send(self) -> bool:
        is_open = self._channel is not None and self._channel.is_open
        held = self._blocked or self._replacing
        return is_open and not held and not self._ledger.is_full

    def _record(self, entry: Entry) -> bytes:
        """The frames of a message, which counts as sent; none where it cannot be."""
        assert self._channel is not None
        assert self._connection is not None
        try:
            frames = entry.message.frames(
                self._channel.channel_number, self._connection.frame_bytes
            )
        except Unsendable as error:
            entry.refused(str(error))
            return b""
        if not len(self._ledger):
            self._heard_at_s = time.monotonic()
        self._ledger.record(entry)
        return frames

    def _set_blocked(self, blocked: bool) -> None:
        with self._lock:
            self._blocked = blocked
            self._heard_at_s = time.monotonic()
        said = "blocks publishers (memory or disk alarm)" if blocked else "takes messages again"
        logger.warning("Publisher '%s': the broker %s", self._name, said)
        if self._telemetry is not None:
            self._telemetry.connection_blocked(self._name, blocked)
        self._flush()


def _nested(message: Outgoing) -> NotConfirmed:
    return NotConfirmed(
        f"{message}: not sent: publish was called within publish on the same thread, by a signal "
        f"handler or by telemetry; hand the message to another thread, such as by a queue",
        sent=False,
    )

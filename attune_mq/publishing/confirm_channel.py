"""The channel on which a publisher's messages go out and their confirms come back.

One pika ``SelectConnection`` at a time with one channel in confirm mode: what waits to be sent,
what was sent and not confirmed, and what each word of the broker says about it. Who waits for a
message is not known here; see :mod:`confirming`.

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
from collections.abc import Iterable
from typing import cast

from pika import exceptions as pika_errors, spec
from pika.channel import Channel

from attune_mq.amqp.connecting import abandon
from attune_mq.amqp.frames import Confirm, ConfirmReader
from attune_mq.amqp.pika_link import DirectConnection, never_called
from attune_mq.amqp.silence import SILENT_AFTER_S, Silence
from attune_mq.errors import AttuneError
from attune_mq.message.outgoing import Batch, Entry, Ledger, Unsendable, blamed
from attune_mq.message.telemetry import Telemetry

logger = logging.getLogger(__name__)

DOUBT_S = 1.0
"""The least age of a channel that is replaced because of a nack."""
TRY_AGAIN_S = 0.1
"""Where the broker allows one channel (``channel_max``)."""
DRAIN_S = 5.0
"""How long it is waited for what is in flight on a channel that is to be replaced."""


class ConfirmChannel:
    """Tenant of a :class:`~attune_mq.amqp.reconnecting.Reconnecting`: what that calls, and
    pika, runs on whichever thread turns the loop; all else on any thread.

    ``lock``: for all of its state, and for whatever is sent. An ``RLock``, since what pika calls
    back may already hold it, and since whoever is interrupted gives back what it holds.
    """

    def __init__(self, name: str, telemetry: Telemetry | None) -> None:
        self.lock = threading.RLock()
        self.is_closing = False
        self.unexpected_confirms = 0
        self.batches: set[Batch] = set()
        """What callers wait for."""
        self._name = name
        self._telemetry = telemetry
        self._waiting: deque[Entry] = deque()
        self._ledger = Ledger()
        self._connection: DirectConnection | None = None
        self._channel: Channel | None = None
        self._channel_opened_at = 0.0
        self._replacing = False
        self._blocked = False
        self._heard_at_s = 0.0  # when the broker last spoke, or began to owe a word
        self._last_failure: AttuneError | None = None
        self._said: set[str] = set()

    def expect_connection(self) -> None:
        """From now on one is being opened."""
        self._heard_at_s = time.monotonic()

    def send(self, entries: Iterable[Entry]) -> None:
        """Now, or when it is their turn. With the lock held."""
        self._waiting.extend(entries)
        self._flush()

    def take_back(self, entries: Iterable[Entry]) -> bool:
        """Nobody waits for them any more: what was not sent never will be. Whether nothing goes
        out since none of all in flight is waited for. With the lock held."""
        for entry in entries:
            entry.abandoned = True
        self._waiting = deque(entry for entry in self._waiting if not entry.abandoned)
        return self._ledger.is_full_of_abandoned and self._connection is not None

    def fail_all(self, reason: str, cause: BaseException) -> None:
        """The connection is over. Whatever is not resolved becomes unconfirmed, but for what is
        still to be sent, on the next; also what a thread that was interrupted had in its hands.
        With the lock held."""
        self._connection = self._channel = None
        self._ledger.drain()
        to_be_sent = frozenset(self._waiting)
        for batch in self.batches:
            batch.fail(reason, cause, but=to_be_sent)

    def close(self) -> list[Entry]:
        """All that is left. With the lock held."""
        entries = [*self._waiting, *self._ledger.drain()]
        self._waiting.clear()
        return entries

    @property
    def last_failure(self) -> AttuneError | None:
        """Why there is no connection; ``None`` while there is one, or the first is being opened."""
        return self._last_failure

    @property
    def trouble(self) -> str | None:
        """Why nothing is being confirmed just now, if something is known of it."""
        with self.lock:
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
        with self.lock:
            return len(self._ledger) + len(self._waiting)

    def is_busy(self) -> bool:
        """Whether messages are in flight or waiting, or a channel is being opened or closed."""
        unsettled = len(self._ledger) or len(self._waiting)
        return bool(unsettled) or self._channel is None or self.is_closing

    def on_open(self, connection: DirectConnection) -> None:
        connection.exclusive = self.lock
        self._connection = connection
        self._heard_at_s = time.monotonic()
        if self._telemetry is not None:
            self._telemetry.connection_opened(self._name)
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        self._open_channel(connection)
        Silence(connection, self._silent_since_s, lambda: self._channel).watch()

    def on_lost(self, failure: AttuneError, *, was_open: bool) -> None:
        """Said once for each reason until it is connected again, not for each attempt."""
        with self.lock:
            self._blocked = self._replacing = False
            self._last_failure = failure
            is_closing = self.is_closing
            is_news = str(failure) not in self._said and not is_closing
            self._said.add(str(failure))
            self.fail_all(f"the connection was lost: {failure}", failure)
        if is_news:
            logger.warning("Publisher '%s': %s", self._name, failure)
        if was_open and self._telemetry is not None and not is_closing:
            self._telemetry.connection_lost(self._name, str(failure))

    def on_refused(self, failure: AttuneError) -> None:
        with self.lock:
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
        with self.lock:
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
        with self.lock:
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
        self._open_channel(channel.connection)

    def _open_channel(self, connection: DirectConnection) -> None:
        if connection is not self._connection or not connection.is_open or self.is_closing:
            return
        try:
            connection.channel(on_open_callback=self._on_channel_open)
        except pika_errors.NoFreeChannels:  # pika still counts the one that was closed
            connection.ioloop.call_later(TRY_AGAIN_S, lambda: self._open_channel(connection))

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
        with self.lock:
            self._ledger.returned(properties.message_id, method.exchange, method.routing_key, why)

    def _on_confirms(self, confirms: list[Confirm]) -> None:
        with self.lock:
            unexpected = sum(not self._settle(confirm) for confirm in confirms)
            self._heard_at_s = time.monotonic()
            is_over = self._channel is None or not self._channel.is_open
        if unexpected and (self._ledger or not is_over):
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
        with self.lock:
            is_due = channel is not None and channel is self._channel and self._replacing
        if is_due and channel is not None and channel.is_open:
            channel.close()

    def _flush(self) -> None:
        """Sends what waits, as much as may be in flight. From any thread."""
        with self.lock:
            frames: list[bytes] = []
            try:
                while self._waiting and self._can_send():
                    frames.append(self._record(self._waiting.popleft()))
                if any(frames):
                    assert self._connection is not None
                    # One that is just ending tells so itself, of all that it was given.
                    with contextlib.suppress(pika_errors.ConnectionWrongStateError):
                        self._connection.send(b"".join(frames))
            except BaseException:
                # While the lock is held: nobody else sends after what was counted and not sent.
                if self._connection is not None:
                    self._connection.is_over = True
                raise

    def _can_send(self) -> bool:
        if self._channel is None or not self._channel.is_open:
            return False
        if self._connection is None or self._connection.is_over:
            return False
        return not (self._blocked or self._replacing or self._ledger.is_full)

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
        with self.lock:
            self._blocked = blocked
            self._heard_at_s = time.monotonic()
        said = "blocks publishers (memory or disk alarm)" if blocked else "takes messages again"
        logger.warning("Publisher '%s': the broker %s", self._name, said)
        if self._telemetry is not None:
            self._telemetry.connection_blocked(self._name, blocked)
        self._flush()

"""Exchanging messages for outcomes, over one connection that publishes with confirms.

Callers on any thread send their messages over it, as many in flight as the limits allow, and wait;
whoever turns its loop resolves each exactly once, and sends what had to wait
(:mod:`confirm_channel`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from attune_mq.amqp.io_loop import give_back
from attune_mq.amqp.reconnecting import Reconnecting
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import BrokerUnavailable, NotConfirmed
from attune_mq.forking import after_fork
from attune_mq.message.outgoing import Batch, Outcome, Outgoing
from attune_mq.message.telemetry import Telemetry
from attune_mq.publishing.confirm_channel import ConfirmChannel

logger = logging.getLogger(__name__)

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
        self._channel = ConfirmChannel(self._name, self._telemetry)
        self._reconnecting = Reconnecting(self._settings, self._channel, name=self._name)
        self._callers: set[int] = set()  # the threads that exchange

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
            try:
                self._abort(batch, caller, interruption)
            except BaseException:  # another one, before that had begun
                self._abort(batch, caller, interruption)
            raise

    def _submit(self, batch: Batch, caller: int) -> None:
        """Sends its messages, or has them wait for their turn; each is resolved later, unless
        :meth:`_abandon` comes first."""
        with self._channel.lock:
            self._callers.add(caller)
            self._channel.batches.add(batch)
            if self._closed:
                for entry in batch.entries:
                    entry.unconfirmed(CLOSED)
                return
            if not self._reconnecting.has_started:
                self._channel.expect_connection()
                self._reconnecting.start()
            self._channel.send(batch.entries)

    def _wait(self, batch: Batch, timeout_s: float) -> bool:
        """Whether all of it is resolved by then."""
        until_s = time.monotonic() + timeout_s
        self._reconnecting.turn_while(lambda: batch.is_pending, until_s)
        return batch.wait(max(0.0, until_s - time.monotonic()))

    def _abandon(self, batch: Batch, reason: str) -> None:
        """The caller no longer waits. What was not sent never will be; all become unconfirmed."""
        with self._channel.lock:
            is_stuck = self._channel.take_back(batch.entries)
            for entry in batch.entries:
                entry.unconfirmed(reason, self._channel.last_failure)
        if is_stuck:
            logger.warning("Publisher '%s': nothing is confirmed, it reconnects", self._name)
            self._reconnecting.drop()

    def _end(self, batch: Batch, caller: int) -> list[Outcome]:
        with self._channel.lock:
            self._channel.batches.discard(batch)
            outcomes = batch.end()
        self._callers.discard(caller)
        return outcomes

    def _abort(self, batch: Batch, caller: int, interruption: BaseException) -> None:
        """By the thread that was interrupted, in which it may be interrupted again: each attempt
        does all of it."""
        kind = type(interruption).__name__
        why = BrokerUnavailable(f"the connection was given up: a caller was interrupted ({kind})")
        for _ in range(ABORT_ATTEMPTS):
            try:
                self._reconnecting.abort(why)
                give_back(self._channel.lock)
                with self._channel.lock:
                    self._channel.take_back(batch.entries)
                    self._channel.fail_all(str(why), why)
                self._end(batch, caller)
                self._reconnecting.abort(why)  # where another was opened in between
            except BaseException:
                logger.debug("Interrupted while giving the connection up", exc_info=True)
            else:
                return

    @property
    def trouble(self) -> str | None:
        """Why nothing is being confirmed just now, if something is known of it."""
        if self._closed or not self._reconnecting.has_started:
            return None
        return self._channel.trouble

    @property
    def unconfirmed_count(self) -> int:
        return self._channel.unconfirmed_count

    @property
    def unexpected_confirms(self) -> int:
        """How many confirms came of messages that nobody had sent; each cost the connection."""
        return self._channel.unexpected_confirms

    def close(self, timeout_s: float) -> None:
        """Ends the thread. What is in flight or waiting is reported as unconfirmed."""
        self._closed = self._channel.is_closing = True
        self._reconnecting.close(timeout_s)
        with self._channel.lock:
            for entry in self._channel.close():
                entry.unconfirmed(CLOSED)


def _nested(message: Outgoing) -> NotConfirmed:
    return NotConfirmed(
        f"{message}: not sent: publish was called within publish on the same thread, by a signal "
        f"handler or by telemetry; hand the message to another thread, such as by a queue",
        sent=False,
        message_id=message.message_id,
    )

"""A publisher's connection: messages are exchanged for outcomes, by callers on any thread.

Who does what: a caller sends its messages itself and, if nobody else does, leads the I/O loop
(:mod:`attune_mq.amqp.io_loop`) until they are confirmed. The connection's own thread, which has the
publisher's name, connects, opens channels after it, reconnects, and leads while nobody else does.
Telemetry and the log are notified of the connection's state by whichever of them leads.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence

from pika import spec

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.frames import method_frame
from attune_mq.amqp.io_loop import release_all
from attune_mq.amqp.liveness import LivenessProbe
from attune_mq.amqp.protocol import ChannelState, Phase
from attune_mq.amqp.reconnecting import Reconnecting
from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import AttuneError, BrokerUnavailable, NotConfirmed
from attune_mq.forking import after_fork
from attune_mq.message.outgoing import Outcome, Outgoing
from attune_mq.message.telemetry import Telemetry
from attune_mq.publishing.batch import Batch, resolve
from attune_mq.publishing.confirms import Confirms, Resolved

logger = logging.getLogger(__name__)

CLOSED = "the publisher is closed"
WATCHDOG_S = 1.5
"""A broker that owes confirms and sends none for so long is asked whether it lives."""
LOOK_EVERY_S = 0.25
ABORT_ATTEMPTS = 10
"""Of a thread that is interrupted again and again, as by an interval timer."""


class ConfirmConnection:
    """Exchange messages for outcomes, close it. From any thread.

    A thread that is interrupted within :meth:`exchange` may have been anywhere: between counting a
    message and sending it, or between reading a confirm and giving it to its caller. So the
    interruption ends the connection, everything in flight on it becomes unconfirmed, and the next
    exchange opens another: commit or kill the connection, in one place.

    In a fork it begins anew, with a connection of its own and none of the parent's messages.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        name: str,
        telemetry: Telemetry | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._settings = settings
        self._name = name
        self._telemetry = telemetry
        self._runtime = runtime
        self._closed = False
        self.due_s = math.inf
        self.unexpected_confirms = 0
        """How many confirms came of messages that nobody had sent; each closes the connection."""
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._lock = self._runtime.rlock()  # for all of the state below, and for what is sent
        self._confirms = Confirms()
        self._batches: set[Batch] = set()
        self._callers: set[int] = set()  # the threads that exchange
        self._connection: Connection | None = None
        self._channel: ChannelState | None = None
        self._probe: LivenessProbe | None = None
        self._last_failure: AttuneError | None = None
        self._logged: set[str] = set()
        self._is_stuck = False
        self._look_at_s = 0.0
        self.reconnecting = Reconnecting(
            self._settings, self, name=self._name, runtime=self._runtime, lock=self._lock
        )

    @property
    def unconfirmed_count(self) -> int:
        with self._lock:
            return self._confirms.count

    @property
    def trouble(self) -> str | None:
        """Why nothing is being confirmed just now, if something is known of it."""
        if self._closed or not self.reconnecting.is_running:
            return None
        with self._lock:
            if self._confirms.blocked:
                return "the broker blocks publishers (memory or disk alarm)"
            is_open = self._confirms.is_ready
            if not is_open and self._last_failure is not None:
                return str(self._last_failure)
            since_s = self._confirms.silent_since_s()
            if since_s is None or self._runtime.monotonic() - since_s < WATCHDOG_S:
                return None  # a connection that is being opened is no trouble yet
            if not is_open:
                return "the connection is not open yet"
            return f"{len(self._confirms)} messages wait for a confirm, the last came long ago"

    # What callers do.

    def exchange(self, messages: Sequence[Outgoing], timeout_s: float) -> list[Outcome]:
        """Sends the messages, and returns an outcome for each, in order, when the last is known or
        the deadline is over. Raises nothing but what interrupts it, see above.

        Within itself (by a signal handler, or by telemetry) it sends nothing: a change of the state
        is under way, and the code that could finish it waits for this call.
        """
        caller = threading.get_ident()
        if caller in self._callers or caller == self.reconnecting.thread_id:
            return [_nested(message) for message in messages]
        batch = Batch(messages, self._runtime)
        try:
            self._submit(batch, caller)
            if not self._wait(batch, timeout_s):
                self._abandon(batch, timeout_s)
            return self._end(batch, caller)
        except BaseException as interruption:
            try:
                self._abort(batch, caller, interruption)
            except BaseException:  # another one, before that had begun
                self._abort(batch, caller, interruption)
            raise

    def close(self, timeout_s: float) -> None:
        """Ends the thread. What is in flight or waiting is reported as unconfirmed."""
        self._closed = True
        self.reconnecting.end()
        self.reconnecting.join(timeout_s)
        with self._lock:
            self._confirms.take_waiting()
            self._fail_all(CLOSED)

    def _submit(self, batch: Batch, caller: int) -> None:
        """Sends its messages, or has them wait for their turn."""
        with self._lock:
            self._callers.add(caller)
            self._batches.add(batch)
            if self._closed:
                batch.fail(CLOSED)
                return
            if not self.reconnecting.is_running:
                self._confirms.heard_at_s = self._runtime.monotonic()
                self.reconnecting.start()
            self._confirms.submit(batch.entries)
            self._flush()

    def _wait(self, batch: Batch, timeout_s: float) -> bool:
        """Whether all of it is resolved by then."""
        until_s = self._runtime.monotonic() + timeout_s
        connection = self._connection
        if connection is not None:
            connection.loop.drive_until(lambda: not batch.left, until_s, join=False)
        return batch.wait(max(0.0, until_s - self._runtime.monotonic()))

    def _abandon(self, batch: Batch, timeout_s: float) -> None:
        """The caller no longer waits. What was not sent never will be; all become unconfirmed."""
        trouble = self.trouble or "the broker has not answered"
        with self._lock:
            self._is_stuck = self._confirms.take_back(batch.entries)
            batch.fail(f"no confirm within {timeout_s:g} s: {trouble}", self._last_failure)
        if self._is_stuck:
            logger.warning("Publisher '%s': nothing is confirmed, it reconnects", self._name)
            self.reconnecting.wake()

    def _end(self, batch: Batch, caller: int) -> list[Outcome]:
        with self._lock:
            self._batches.discard(batch)
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
                self.reconnecting.abort(why)
                release_all(self._lock)
                with self._lock:
                    opened_since = self._connection
                    self._confirms.take_back(batch.entries)
                    self._fail_all(str(why), why)
                if opened_since is not None:
                    opened_since.loop.abort(why)
                self._end(batch, caller)
            except BaseException:
                logger.debug("Interrupted while giving the connection up", exc_info=True)
            else:
                return

    def _fail_all(self, reason: str, cause: BaseException | None = None) -> None:
        """The connection is over. Whatever is not resolved becomes unconfirmed, but for what is
        still to be sent, on the next; also what a thread that was interrupted had in its hands."""
        self._connection = self._channel = self._probe = None
        self._confirms.gone(self._runtime.monotonic())
        to_be_sent = frozenset(self._confirms.waiting)
        for batch in self._batches:
            batch.fail(reason, cause, but=to_be_sent)

    # The connection's own thread.

    def serve(self, connection: Connection) -> AttuneError:
        with self._lock:
            self._is_stuck = False
            self._confirms.heard_at_s = self._runtime.monotonic()
            self._probe = LivenessProbe(connection, self._confirms.heard_at_s)
            self._connection, self._channel = connection, connection.open_channel()
        if self._telemetry is not None:
            self._telemetry.connection_opened(self._name)
        connection.serve(self, lambda: self._is_stuck or self.reconnecting.is_ending)
        return connection.why_over

    def lost(self, failure: Exception, *, was_open: bool) -> None:
        """Logged once for each reason until it is connected again, not for each attempt."""
        with self._lock:
            self._confirms.blocked = False
            self._last_failure = failure if isinstance(failure, AttuneError) else None
            is_news = str(failure) not in self._logged and not self._closed
            self._logged.add(str(failure))
            self._fail_all(str(failure), failure)
            if not isinstance(failure, BrokerUnavailable):  # waiting does not fix it
                resolve(
                    Resolved(one, one.not_confirmed(f"not sent: {failure}", failure))
                    for one in self._confirms.take_waiting()
                )
        if is_news:
            defect = None if isinstance(failure, AttuneError) else failure
            logger.warning("Publisher '%s': %s", self._name, failure, exc_info=defect)
        if was_open and self._telemetry is not None and not self._closed:
            self._telemetry.connection_lost(self._name, str(failure))

    # Called by the leader of the I/O loop, with the lock held.

    @property
    def is_busy(self) -> bool:
        return self._confirms.is_busy or self._closed

    def tick(self, now_s: float) -> None:
        connection, probe, channel = self._connection, self._probe, self._channel
        if connection is None or probe is None or channel is None:
            return
        if connection.link.blocked is not self._confirms.blocked:
            self._note_blocked(connection.link.blocked, now_s)
        if channel.phase is Phase.OPEN and self._confirms.is_to_be_replaced(now_s):
            connection.close_channel(channel)
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            self._look(probe, channel, now_s)
        self._flush()

    def _look(self, probe: LivenessProbe, channel: ChannelState, now_s: float) -> None:
        """Whether the broker lives, where it owes confirms and sends none."""
        since_s = self._confirms.silent_since_s()
        if probe.is_waiting:
            probe.require_answer(now_s)
        elif since_s is not None and now_s - max(since_s, probe.answered_at_s) >= WATCHDOG_S:
            probe.ask(now_s, channel if channel.is_open else None)

    def receive(self, now_s: float) -> None:
        connection, probe, channel = self._connection, self._probe, self._channel
        if connection is None or probe is None or channel is None:
            return
        if probe.is_waiting:
            probe.answer(now_s)
        for event in channel.take_events():
            resolve(self._confirms.receive(event, now_s))
        if self._confirms.unexpected:
            self._end_distrusted(connection)
            return
        while channel.replies:
            self._replied(connection, channel, channel.replies.popleft(), now_s)
        if channel.phase is Phase.CLOSED and connection.is_open:
            self._replace_channel(connection, now_s)
        self._flush()

    def _replied(
        self, connection: Connection, channel: ChannelState, reply: object, now_s: float
    ) -> None:
        match reply:
            case spec.Channel.OpenOk():
                connection.loop.send(method_frame(channel.number, spec.Confirm.Select()))
            case spec.Confirm.SelectOk():
                if self._last_failure is not None:
                    logger.info("Publisher '%s' is connected again", self._name)
                self._confirms.opened(channel.number, connection.link.frame_max, now_s)
                self._last_failure = None
                self._logged.clear()
            case _:
                if self._probe is not None:
                    self._probe.answered(now_s)

    def _replace_channel(self, connection: Connection, now_s: float) -> None:
        """After the broker closed it: an exchange that is missing, not permitted, a message that is
        too large; or after we did, since it is to be replaced."""
        why = "the channel was replaced, as others were refused on it"
        resolve(Resolved(one, one.not_confirmed(why)) for one in self._confirms.gone(now_s))
        self._channel = connection.open_channel()

    def _end_distrusted(self, connection: Connection) -> None:
        unexpected, self._confirms.unexpected = self._confirms.unexpected, 0
        self.unexpected_confirms += unexpected
        if self._telemetry is not None:
            self._telemetry.unexpected_confirms(self._name, unexpected)
        connection.abandon("the broker confirmed a message that was not sent")

    def _note_blocked(self, blocked: bool, now_s: float) -> None:
        self._confirms.blocked, self._confirms.heard_at_s = blocked, now_s
        what = "blocks publishers (memory or disk alarm)" if blocked else "takes messages again"
        logger.warning("Publisher '%s': the broker %s", self._name, what)
        if self._telemetry is not None:
            self._telemetry.connection_blocked(self._name, blocked)

    def _flush(self) -> None:
        """Sends what waits, as much as may be in flight. With the lock held, by any thread."""
        connection = self._connection
        if connection is None or not self._confirms.waiting or not connection.is_open:
            return
        try:
            frames, refused = self._confirms.data_to_send(self._runtime.monotonic())
            resolve(refused)
            if frames:
                connection.loop.send(frames)
        except BaseException as error:
            # While the lock is held: nobody else sends after what was counted and not sent.
            connection.loop.give_up(error)
            raise


def _nested(message: Outgoing) -> NotConfirmed:
    return NotConfirmed(
        f"{message}: not sent: publish was called within publish on the same thread, by a signal "
        f"handler or by telemetry; hand the message to another thread, such as by a queue",
        sent=False,
        message_id=message.message_id,
    )

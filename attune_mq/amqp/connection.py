"""One AMQP connection: protocol, stream and loop together, and questions on it that wait.

A question waits for its answer on the thread that asks, which drives the connection meanwhile.
Whatever comes between a question and its answer ends the connection: what is still to come would be
taken for the answer to the next one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Self

from pika import exceptions as pika_errors
from pika.amqp_object import Method

from attune_mq.amqp.channel_methods import ChannelMethods, Refused
from attune_mq.amqp.connection_errors import connection_failure
from attune_mq.amqp.frames import ack, method_frame, nack
from attune_mq.amqp.io_loop import ConnectionUser, IoLoop
from attune_mq.amqp.pika_link import Link, PikaLink
from attune_mq.amqp.protocol import ChannelState, ConnectionProtocol, Event, Phase, Reply
from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import AttuneError, BrokerUnavailable
from attune_mq.forking import after_fork

CONNECTION_FORCED = 320
"""The broker ends connections for reasons of its own, and refuses nothing with it."""
CLOSING_S = 1.0
"""How long the broker may take to agree that the connection is closed."""


class _Nobody:
    """Uses a connection on which only questions are asked."""

    due_s = math.inf
    is_busy = False

    def tick(self, now_s: float) -> None: ...
    def receive(self, now_s: float) -> None: ...


class Connection:
    """Opened by :meth:`open`. Safe from any thread where it says so, else for one at a time."""

    def __init__(
        self,
        url: str,
        settings: BrokerSettings,
        *,
        name: str,
        runtime: Runtime = SYSTEM,
        lock: threading.RLock | None = None,
    ) -> None:
        """Connects, at once; see :meth:`open`."""
        self._url = url
        self._settings = settings
        self._runtime = runtime
        parameters = settings.parameters(url, name=name)
        self._until_s = runtime.monotonic() + (parameters.stack_timeout or math.inf)
        try:
            stream = runtime.connect(parameters)
        except OSError as error:
            raise connection_failure(error, url, settings) from error
        self.link: Link = PikaLink(parameters)
        self._protocol = ConnectionProtocol(self.link)
        self.loop = IoLoop(self._protocol, stream, runtime, _Nobody(), lock or runtime.rlock())
        after_fork(self.loop.leave_to_parent)

    @classmethod
    def open(
        cls,
        settings: BrokerSettings,
        *,
        name: str,
        runtime: Runtime = SYSTEM,
        lock: threading.RLock | None = None,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> Self:
        """To the first host that lets us in, of all in random order. ``name`` is what the broker's
        list of connections shows. ``lock``: of the state that changes with what comes and goes.
        ``is_given_up``: whether it is still wanted, asked now and then.

        Raises ``LoginRefused``, ``VirtualHostRefused`` or ``TlsRefused`` when a host refuses us or
        we refuse it, ``InvalidInput`` for a file of the settings that cannot be used, and
        ``BrokerUnavailable``, naming what each said, when none can be reached.
        """
        failures: list[AttuneError] = []
        for url in runtime.shuffled(settings.urls):
            try:
                connection = cls(url, settings, name=name, runtime=runtime, lock=lock)
                connection.shake_hands(is_given_up)
            except AttuneError as error:
                failures.append(error)
            else:
                return connection
        refused = [failure for failure in failures if not isinstance(failure, BrokerUnavailable)]
        if refused:
            raise refused[0]
        raise BrokerUnavailable("; ".join(map(str, failures))) from failures[-1]

    def shake_hands(self, is_given_up: Callable[[], bool]) -> None:
        """Until it is open. Raises as :meth:`open` does."""
        try:
            with self.loop.lock:
                self.link.connect(self._runtime.monotonic())
            self._drive_until(lambda: self.link.is_open or is_given_up(), self._until_s)
            if not self.link.is_open:
                timeout = TimeoutError("the AMQP handshake took too long")
                raise connection_failure(self.loop.end or timeout, self._url, self._settings)
        except BaseException:
            self.loop.close_stream()
            raise

    @property
    def is_open(self) -> bool:
        return self.loop.end is None and self.link.is_open

    @property
    def why_over(self) -> AttuneError:
        """As an error of ours, once it is not open."""
        end = self.loop.end or pika_errors.ConnectionWrongStateError("the connection is not open")
        was_open = self.link.frame_max > 0
        return connection_failure(end, self._url, self._settings, was_open=was_open)

    def serve(self, user: ConnectionUser, is_leaving: Callable[[], bool]) -> None:
        """Drives it for ``user``, until it is over or ``is_leaving``. Raises what the user does."""
        self.loop.user = user
        self.loop.run(is_leaving)

    def open_channel(self) -> ChannelState:
        """Begins to; it is sent with what is sent next. Raises
        :class:`~attune_mq.amqp.protocol.NoFreeChannel`."""
        with self.loop.lock:
            return self._protocol.open_channel()

    def close_channel(self, channel: ChannelState) -> None:
        """Begins to, as above."""
        with self.loop.lock:
            self._protocol.close_channel(channel)

    def channel(self, within_s: float | None = None) -> Channel:
        """Opens one and waits for it. ``within_s``: of each question on it."""
        channel = Channel(self, self.open_channel(), within_s)
        channel.wait_for(1)
        return channel

    def drive(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        """Until ``is_done``, so many seconds at most. Raises ``BrokerUnavailable`` once it is over,
        and :class:`Refused` where the broker closed it for what was asked."""
        self._drive_until(is_done, self._runtime.monotonic() + timeout_s)
        if not is_done():
            self.require_open()

    def sleep(self, pause_s: float) -> None:
        """Serves the connection meanwhile. Raises as :meth:`drive`."""
        self.drive(lambda: False, pause_s)

    def _drive_until(self, is_done: Callable[[], bool], until_s: float) -> None:
        self.loop.drive_until(is_done, until_s, join=True)

    def require_open(self) -> None:
        """Raises ``BrokerUnavailable``, or :class:`Refused`, with the reason why it is not."""
        if self.is_open:
            return
        end = self.loop.end
        if (
            isinstance(end, pika_errors.ConnectionClosedByBroker)
            and end.reply_code != CONNECTION_FORCED
        ):
            raise Refused(end.reply_code, end.reply_text, is_connection=True) from self.why_over
        raise self.why_over

    def abandon(self, reason: str) -> None:
        """Ends it as a missing heartbeat does: without a closing handshake, since its peer does not
        answer."""
        with self.loop.lock:
            self.link.abandon(pika_errors.AMQPHeartbeatTimeout(reason))
            self.loop.send(b"")  # notes that it is over
        self.loop.wake()

    def close(self, timeout_s: float = CLOSING_S) -> None:
        """Whatever its state; raises nothing but what interrupts it. Its user sees nothing more."""
        self.loop.user = _Nobody()
        try:
            if self.is_open:
                with self.loop.lock:
                    self.link.close()
                    self.loop.send(b"")
                self.loop.wake()
                until_s = self._runtime.monotonic() + timeout_s
                self.loop.drive_until(lambda: self.loop.end is not None, until_s, join=True)
        finally:
            self.loop.close_stream()


class Channel(ChannelMethods):
    """On a :class:`Connection`. ``within_s``: how long the broker may take over an answer."""

    def __init__(
        self, connection: Connection, state: ChannelState, within_s: float | None = None
    ) -> None:
        self.connection = connection
        self.state = state
        self._within_s = within_s

    @property
    def is_open(self) -> bool:
        return self.state.is_open and self.connection.is_open

    def basic_ack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Sent, not answered."""
        self.send(ack(self.state.number, delivery_tag, multiple=multiple))

    def basic_nack(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """With ``requeue``. Sent, not answered."""
        self.send(nack(self.state.number, delivery_tag, multiple=multiple))

    def ask_all(self, methods: Sequence[Method]) -> list[Reply]:
        frames = b"".join(method_frame(self.state.number, method) for method in methods)
        self.require_open()
        return self._exchange(frames, len(methods))

    def wait_for(self, count: int) -> list[Reply]:
        """So many answers to what was sent."""
        return self._exchange(b"", count)

    def _exchange(self, frames: bytes, count: int) -> list[Reply]:
        try:
            self.connection.loop.send(frames)
            return self._answers(count)
        except (AttuneError, Refused):
            raise
        except BaseException:  # of a time limit, too: the answers may be still to come
            self.connection.loop.abort(BrokerUnavailable("a question was interrupted"))
            raise

    def _answers(self, count: int) -> list[Reply]:
        replies, connection = self.state.replies, self.connection
        timeout_s = math.inf if self._within_s is None else self._within_s
        connection.drive(lambda: len(replies) >= count or not self._may_answer, timeout_s)
        if len(replies) < count:
            self.require_open()
            connection.abandon(f"the broker did not answer for {timeout_s:g} s")
            raise connection.why_over
        return [replies.popleft() for _ in range(count)]

    def send(self, frames: bytes) -> None:
        self.require_open()
        self.connection.loop.send(frames)

    def take_events(self) -> list[Event]:
        """What has come beside answers, in order."""
        with self.connection.loop.lock:
            return self.state.take_events()

    def wait_for_events(self, timeout_s: float) -> list[Event]:
        """What has come beside answers; empty after so many seconds without any."""
        self.connection.drive(lambda: self.state.has_events or not self.is_open, timeout_s)
        self.require_open()
        return self.take_events()

    def close(self) -> None:
        if self.is_open:
            self.connection.close_channel(self.state)
            self.connection.loop.send(b"")
            self.connection.drive(lambda: not self._may_answer, math.inf)

    @property
    def _may_answer(self) -> bool:
        return self.state.phase is not Phase.CLOSED

    def require_open(self) -> None:
        """Raises what its methods raise where it is not."""
        if self.state.closed is not None:
            raise Refused(*self.state.closed)
        self.connection.require_open()
        if not self._may_answer:
            raise BrokerUnavailable("the channel is closed")

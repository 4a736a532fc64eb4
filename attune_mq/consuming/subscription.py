"""One connection of a consumer: its subscription, and the loop until it stops or is lost.

Who does what: with one worker, the worker leads the I/O loop while it has nothing to handle, so
that what comes is handled by the thread that read it; while it is with a handler, the consumer's
own thread does what is due. With several workers the consumer's own thread leads all the time.
Whatever changes the session holds the loop's lock, on whichever thread: never two at once.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence, Set as AbstractSet
from contextlib import nullcontext
from functools import partial

from attune_mq.amqp.connection import Channel, Connection
from attune_mq.amqp.protocol import Phase, RawMessage
from attune_mq.amqp.runtime import Runtime
from attune_mq.amqp.worker_pool import WorkerPool
from attune_mq.broker.declaring import bind, declare_queue
from attune_mq.consuming.channel_session import ChannelSession, Job, ToDo
from attune_mq.consuming.pausing import Pause
from attune_mq.consuming.processing import Result
from attune_mq.consuming.registration import LivenessSnapshot, Registration
from attune_mq.consuming.status import Progress
from attune_mq.consuming.stream_reading import StreamReading
from attune_mq.errors import ConsumeError
from attune_mq.message.delivery import Delivery, UnreadDelivery
from attune_mq.message.telemetry import Requeued, Telemetry
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.declaration import private_declarations
from attune_mq.topology.model import ExpandedTopology

logger = logging.getLogger(__name__)

SETTLE_WITHIN_S = 0.005
MOST_FINISHED = 32
"""More in one acknowledgement make it no cheaper."""
WAIT_S = 0.1
LOOK_EVERY_S = 0.5
"""Whether a handler is past its deadline."""


class Subscription:
    """Consumes until it is asked to stop; raises when connection, channel or consumer is lost."""

    def __init__(
        self,
        connection: Connection,
        *,
        topology: ExpandedTopology,
        spec: ConsumerSpec,
        tag: str,
        prefetch: int,
        pool: WorkerPool[tuple[Subscription, Job]],
        progress: Progress,
        pause: Pause,
        telemetry: Telemetry | None,
        reading: StreamReading | None,
        runtime: Runtime,
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._spec = spec
        self._tag = tag
        self._prefetch = prefetch
        self._pool = pool
        self._progress = progress
        self._pause = pause
        self._telemetry = telemetry
        self._reading = reading
        self._runtime = runtime
        self._channel: Channel | None = None
        self._session: ChannelSession | None = None
        self._registration: Registration | None = None
        self.is_busy = pool.concurrency > 1
        """Whether the consumer's own thread leads all the time, since no worker does."""
        self.due_s = math.inf
        self.is_stopping = False
        self._turned_at_s = self._look_at_s = 0.0
        self._finished: deque[tuple[Delivery, Result]] = deque()
        self._finished_since_s = 0.0
        self._enough_finished = max(1, min(MOST_FINISHED, prefetch // 3))
        self._stop_at_s = 0.0
        self._settled = runtime.condition()
        self._over = False
        self._queue = ""

    @property
    def in_flight(self) -> int:
        """Messages that the broker delivered and that are not settled."""
        return len(self._session.unacked) if self._session else 0

    @property
    def can_settle(self) -> bool:
        """Whether the channel is open, as far as is known here."""
        channel, loop = self._channel, self._connection.loop
        return channel is not None and channel.state.phase is Phase.OPEN and loop.end is None

    @property
    def is_registered(self) -> bool:
        """Whether the broker, as far as is known here, has the tag on an open channel."""
        channel = self._channel
        return channel is not None and self._tag in channel.state.consumer_tags and self.can_settle

    @property
    def liveness(self) -> LivenessSnapshot | None:
        """``None`` until the broker has registered the consumer."""
        return self._registration.snapshot(self._turned_at_s) if self._registration else None

    def run(self) -> None:
        """Raises what ended it, and :class:`~attune_mq.errors.ConsumeError` for the quiet losses: a
        queue deleted, a consumer cancelled, a channel closed under a living connection."""
        try:
            if not self.is_stopping:
                self._subscribe()
                lent = self._pool.lending(self._lead_while_idle)
                with nullcontext() if self.is_busy else lent:
                    self._connection.serve(self, lambda: self.is_stopping)
                self._connection.require_open()
                self._progress.stopping()
                self._drain()
        finally:
            with self._settled:
                self._over = True
                self._settled.notify_all()

    def stop(self, deadline_s: float) -> None:
        """From any thread: begin nothing new, finish until the deadline, then leave."""
        loop = self._connection.loop
        self._stop_at_s = self._runtime.monotonic() + deadline_s
        self.is_stopping = True
        with loop.lock:
            if self._session is not None:
                self._session.stop()
        loop.wake()

    # What worker threads call.

    def finished(self, delivery: Delivery, result: Result) -> None:
        """This is to happen to the original. What is finished together is acknowledged together,
        but not kept for long, nor while there is nothing else to do."""
        if not self._finished:
            self._finished_since_s = self._runtime.monotonic()
        self._finished.append((delivery, result))
        if self.is_stopping:
            self._connection.loop.wake()
        elif self._is_enough_finished:
            self._settle_here()

    def wait_until_settled(self, delivery: Delivery) -> None:
        """Until the operating system has what settles it, or nothing will on this channel."""
        if not self.is_stopping:
            self._settle_here()
        tag, loop = delivery.delivery_tag, self._connection.loop
        with self._settled:
            while not self._over and not (
                self._session is not None and tag not in self._session.unacked and loop.has_sent_all
            ):
                self._settled.wait(WAIT_S)

    @property
    def _is_enough_finished(self) -> bool:
        if len(self._finished) >= self._enough_finished:
            return True
        if self.is_busy and not self._pool.waiting:
            return True
        return self._runtime.monotonic() - self._finished_since_s > SETTLE_WITHIN_S

    def _settle_here(self) -> None:
        loop = self._connection.loop
        try:
            with loop.lock:
                self._settle_finished(self._runtime.monotonic())
        except Exception as error:  # it is for the thread that serves the connection
            loop.fail(error)

    def _lead_while_idle(self) -> bool:
        loop = self._connection.loop
        try:
            loop.drive_until(
                lambda: bool(self._pool.waiting) or self.is_stopping, math.inf, join=True
            )
        except Exception as error:  # as above
            loop.fail(error)
        return loop.end is None and not self.is_stopping

    # Called by the leader of the I/O loop, with its lock held.

    def tick(self, now_s: float) -> None:
        if self._registration is None or self._session is None:
            return
        self._turned_at_s = now_s
        if not self.is_stopping:
            if not self.is_registered:
                raise ConsumeError(_CANCELLED if self.can_settle else _CLOSED)
            if now_s >= self._registration.due_s:
                self._registration.tick(now_s)
        if now_s >= self._session.due_s:
            self._do(self._session.due(now_s))
        if self._finished:
            self._settle_finished(now_s)
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            self._progress.deadlines.look()

    def receive(self, now_s: float) -> None:
        if self._registration is None or self._channel is None or self._session is None:
            return
        if self._registration.is_waiting and not self.is_stopping:
            self._registration.receive(now_s)
        kind = UnreadDelivery if self._reading is None else self._reading.delivery
        read = partial(kind, self._queue, self._tag)
        events = self._channel.state.take_events()
        found = [read(*event) for event in events if isinstance(event, RawMessage)]
        if found:
            wall_s, done = self._runtime.now().timestamp(), self._handled_before(found)
            self._do(self._session.delivered(found, now_s, wall_s, done))

    def _handled_before(self, deliveries: Sequence[Delivery]) -> AbstractSet[int]:
        """Delivery tags of those that a stream has delivered again; all others are announced."""
        done: AbstractSet[int] = frozenset()
        if self._reading is not None:
            deliveries, done = self._reading.delivered(deliveries)
        if self._telemetry is not None:
            for delivery in deliveries:
                self._telemetry.delivered(delivery)
        return done

    def _settle_finished(self, now_s: float) -> None:
        assert self._session is not None
        results = []
        while self._finished:
            results.append(self._finished.popleft())
        self._do(self._session.finished(results, now_s))

    def _do(self, to_do: ToDo) -> None:
        assert self._session is not None
        self.due_s = self._session.due_s
        if to_do.frames:
            if not self.can_settle:
                raise ConsumeError(_CLOSED)
            self._connection.loop.send(to_do.frames)
            with self._settled:
                self._settled.notify_all()
        if self._telemetry is not None:
            for delivery in to_do.requeued:
                why = "stopping" if self.is_stopping else "not handled"
                self._telemetry.settled(delivery, None, Requeued(why))
        if to_do.jobs:
            self._pool.submit([(self, job) for job in to_do.jobs])

    # The consumer's own thread.

    def _subscribe(self) -> None:
        reading = self._reading
        begins = None if reading is None else reading.begin(self._connection)
        channel = self._connection.channel()
        channel.basic_qos(self._prefetch)
        self._queue = self._own_queue(channel)
        self._channel = channel
        channel.basic_consume(self._queue, self._tag, begins)
        now_s = self._runtime.monotonic()
        with self._connection.loop.lock:
            self._session = ChannelSession(
                channel.state.number, self._pause, now_s, is_stream=reading is not None
            )
            self.due_s, self._turned_at_s = self._session.due_s, now_s
            if self.is_stopping:
                self._session.stop()
            self._registration = Registration(
                self._connection, channel.state, self._queue, now_s, counts=reading is None
            )
            self._progress.consuming(self._queue)
            self.receive(now_s)  # what came with the answer

    def _own_queue(self, channel: Channel) -> str:
        """The broker's name of the queue; one that belongs to a connection is declared on ours."""
        queue = self._topology.queues[self._spec.queue]
        if not queue.belongs_to_a_connection:
            return queue.name
        declaration, bindings = private_declarations(self._topology, self._spec.queue)
        name = declare_queue(channel, declaration)
        for binding in bindings:
            bind(channel, binding, name)
        return name

    def _drain(self) -> None:
        """What was not begun is requeued at once; the heartbeat goes on while handlers finish.
        Cancelled first, so that it is not delivered to us again."""
        assert self._channel is not None
        assert self._session is not None
        loop = self._connection.loop
        if not self.can_settle:
            return
        if self.is_registered:
            self._channel.basic_cancel(self._tag)
        with loop.lock:
            self.receive(self._runtime.monotonic())
            self._do(self._session.requeue_not_begun(job for _, job in self._pool.take_back()))
        while self._pool.running and self._runtime.monotonic() < self._stop_at_s:
            self._connection.drive(lambda: not self._pool.running, WAIT_S)
        with loop.lock:
            self._settle_finished(self._runtime.monotonic())
        if self._session.unacked:
            logger.warning(
                "Consumer '%s' leaves %d unfinished messages to be delivered again",
                self._tag,
                len(self._session.unacked),
            )


_CANCELLED = "the broker cancelled the consumer: was its queue deleted?"
_CLOSED = "the broker closed the channel"

"""One connection of a consumer, from its opening to its end, with one channel and one tag.

All of it runs on the connection's thread, but for :meth:`Session.finished`, :meth:`Session.stop`
and what only reads. A message is settled by the session that it came by, or by none: when the
connection or the channel is lost, the broker gives what was not settled to somebody again, and
whatever a worker still says of it is of no consequence.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.amqp.frames import DeliveryReader
from attune_mq.amqp.pika_link import DirectConnection, never_called
from attune_mq.amqp.pulse import Pulse, Vitals
from attune_mq.amqp.worker_pool import WorkerPool
from attune_mq.broker.infrastructure import bind_queue, declare_queue
from attune_mq.consuming.acknowledgements import Unsettled
from attune_mq.consuming.pausing import Pause, WaitingRoom
from attune_mq.consuming.processing import Action, Replacement, Result, renewal
from attune_mq.consuming.status import Progress
from attune_mq.consuming.stream_reading import StreamReading
from attune_mq.consuming.turning import Turning
from attune_mq.errors import ConsumeError
from attune_mq.message.delivery import Delivery, UnreadDelivery
from attune_mq.message.settlement import Hold
from attune_mq.message.telemetry import GivenBack, Telemetry
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.declarations import private_declarations
from attune_mq.topology.model import ExpandedTopology

logger = logging.getLogger(__name__)

SETTLE_WITHIN_S = 0.005
MOST_FINISHED = 32
"""More in one acknowledgement make it no cheaper."""
_CANCELLED = "the broker cancelled the consumer: was its queue deleted?"
_CLOSED = "the broker closed the channel"
PAUSE_S = 5.0
"""How long an original is kept whose copy could not be published, before that is tried again."""


class Job(NamedTuple):
    """Work for a worker thread: a delivery to handle, perhaps to try whether a pause is over, or a
    copy of it that is still to be published."""

    session: Session
    delivery: Delivery
    replacement: Replacement | None = None
    is_trial: bool = False


class Session:
    """Consumes until it is told to stop; raises when connection, channel or consumer is lost."""

    def __init__(
        self,
        connection: pika.BlockingConnection,
        *,
        topology: ExpandedTopology,
        spec: ConsumerSpec,
        tag: str,
        prefetch: int,
        pool: WorkerPool[Job],
        progress: Progress,
        pause: Pause,
        telemetry: Telemetry | None,
        reading: StreamReading | None = None,
    ) -> None:
        self._connection = connection
        self._reading = reading
        self._topology = topology
        self._spec = spec
        self._tag = tag
        self._prefetch = prefetch
        self._pool = pool
        self._progress = progress
        self._pause = pause
        self._waiting_room = WaitingRoom(
            pause,
            later=self._later,
            begin=lambda delivery, is_trial: self._submit(Job(self, delivery, is_trial=is_trial)),
            renew=lambda delivery: self._submit(Job(self, delivery, renewal(delivery))),
        )
        self._telemetry = telemetry
        self._direct = DirectConnection.of(connection)
        self._channel: BlockingChannel | None = None
        self._pulse: Pulse | None = None
        self._queue = ""
        self._early: list[Delivery] | None = []  # what came with the broker's word that we consume
        self._unsettled = Unsettled(
            self._direct, can_settle=self.can_settle, takes_back=not reading
        )
        self._not_begun: dict[int, Delivery] = {}
        self._deadlines = progress.deadlines
        self._finished: deque[tuple[Delivery, Result]] = deque()
        self._finished_since = 0.0
        self._enough_finished = max(1, min(MOST_FINISHED, prefetch // 3))
        self._wake_scheduled = False
        self._stop_at: float | None = None
        self._turning = Turning(
            connection,
            pool,
            turn=self._turn,
            settle=lambda: self._settle_finished() if self._finished else None,
            is_stopping=lambda: self.is_stopping,
        )

    @property
    def in_flight(self) -> int:
        """Messages that the broker gave us and that are not settled."""
        return len(self._unsettled)

    @property
    def is_stopping(self) -> bool:
        return self._stop_at is not None

    def can_settle(self) -> bool:
        """Whether the channel is open, as far as is known here."""
        channel = self._channel
        return channel is not None and channel.is_open and self._connection.is_open

    @property
    def is_registered(self) -> bool:
        """Whether the broker, as far as is known here, has the tag on an open channel."""
        channel = self._channel
        return channel is not None and self.can_settle() and self._tag in channel.consumer_tags

    @property
    def vitals(self) -> Vitals | None:
        """``None`` until the broker has registered the consumer."""
        return self._pulse.vitals if self._pulse else None

    def run(self) -> None:
        """Raises pika's errors, and :class:`~attune_mq.errors.ConsumeError` for the quiet losses:
        a queue deleted, a consumer cancelled, a channel closed under a living connection."""
        try:
            if self._stop_at is None:
                self._consume()
        finally:
            self._unsettled.end()

    def _consume(self) -> None:
        self._subscribe()
        self._waiting_room.look()  # the pause may be that of an earlier connection
        self._turning.run()
        self._progress.stopping()
        with self._turning.alone():
            self._drain()

    def _turn(self, wait: Callable[[], None]) -> None:
        """One turn of the loop, by whoever turns it."""
        assert self._pulse is not None
        if not self.is_registered:
            raise ConsumeError(_CANCELLED if self.can_settle() else _CLOSED)
        self._pulse.turn()
        wait()
        self._deadlines.look()

    def stop(self, deadline_s: float) -> None:
        """From any thread: begin nothing new, finish until the deadline, then leave."""
        self._stop_at = time.monotonic() + deadline_s
        self._turning.look_up()
        self._end_turn()

    def begun(self, delivery: Delivery) -> None:
        """From a worker thread: its handler is about to be called."""
        self._deadlines.begun(delivery)

    def rests(self, delivery: Delivery) -> None:
        """From a worker thread: its handler has returned, and is to be called again later."""
        self._deadlines.finished(delivery)

    def finished(self, delivery: Delivery, result: Result) -> None:
        """From a worker thread: this is to happen to the original."""
        self._deadlines.finished(delivery)
        if not self._finished:
            self._finished_since = time.monotonic()
        self._finished.append((delivery, result))
        if self._stop_at is not None:
            self._end_turn()
        elif self._is_much_finished:
            self._settle_at_once()

    @property
    def _is_much_finished(self) -> bool:
        """What is finished together is acknowledged together, but not kept for long; nor at all
        where another thread sees to it, which takes as much as there is by then."""
        if not self._turning.is_workers:
            return True
        waited_s = time.monotonic() - self._finished_since
        return len(self._finished) >= self._enough_finished or waited_s > SETTLE_WITHIN_S

    def _settle_at_once(self) -> None:
        """On a worker's thread: here, or by whoever turns the loop."""
        if self._turning.is_workers and self._turning.settle_here():
            return
        if not self._wake_scheduled:  # cleared before the finished are looked at
            self._wake_scheduled = True
            self._direct.call_soon(self._settle_finished)

    def wait_until_settled(self, delivery: Delivery) -> None:
        """From a worker thread: until the operating system has what settles it, or nothing will
        on this channel."""
        if not self.is_stopping:
            self._settle_at_once()
        self._unsettled.wait_until_settled(delivery)

    def _subscribe(self) -> None:
        reading = self._reading
        begins = None if reading is None else reading.begin(self._connection)
        channel = self._channel = self._connection.channel()
        channel.basic_qos(prefetch_count=self._prefetch)
        self._queue = self._own_queue(channel)
        number = self._unsettled.channel = int(channel.channel_number)
        kind = UnreadDelivery if reading is None else reading.delivery
        read = partial(kind, self._queue, self._tag)
        self._direct.read_with(DeliveryReader(number, self._tag, read), self._on_deliveries)
        channel.basic_consume(self._queue, never_called, consumer_tag=self._tag, arguments=begins)
        self._pulse = Pulse(self._connection, channel, self._queue, counts=reading is None)
        self._progress.consuming(self._queue)
        early, self._early = self._early, None
        self._on_deliveries(early or [])

    def _own_queue(self, channel: BlockingChannel) -> str:
        """The broker's name of the queue; one that belongs to a connection is made on ours."""
        queue = self._topology.queues[self._spec.queue]
        if not queue.belongs_to_a_connection:
            return queue.name
        declaration, bindings = private_declarations(self._topology, self._spec.queue)
        name = declare_queue(channel, declaration)
        for binding in bindings:
            bind_queue(channel, binding, name)
        return name

    def _on_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        if self._early is not None:
            self._early += deliveries
            return
        self._unsettled.add(deliveries)
        if self._reading is not None:
            deliveries, done = self._reading.delivered(deliveries)
            self._unsettled.acknowledge(done)
        jobs = []
        for delivery in deliveries:
            if self._telemetry is not None:
                self._telemetry.delivered(delivery)
            if delivery.headers or self._stop_at is not None or self._pause.is_on:
                self._after(delivery.hold_s, delivery, partial(self._offer, delivery))
            else:
                jobs.append(Job(self, delivery))
        self._pool.submit(jobs)

    def _offer(self, delivery: Delivery) -> None:
        if self._pause.is_on and self._reading is None:  # of a stream: it waits in its worker
            self._waiting_room.enter(delivery)
        else:
            self._pool.submit([Job(self, delivery)])

    def _submit(self, job: Job, *, after_s: float = 0.0) -> None:
        self._after(after_s, job.delivery, partial(self._pool.submit, [job]))

    def _later(self, pause_s: float, then: Callable[[], None]) -> None:
        """Not once we are to stop: :meth:`_drain` gives back what is held; no stream's is."""
        if self._reading is None:
            self._connection.call_later(pause_s, lambda: None if self.is_stopping else then())

    def _after(self, pause_s: float, delivery: Delivery, then: Callable[[], None]) -> None:
        """Once we are to stop nothing begins any more: :meth:`_drain` gives it back."""
        self._not_begun[delivery.delivery_tag] = delivery

        def due() -> None:
            if self._stop_at is None:
                del self._not_begun[delivery.delivery_tag]
                then()

        if pause_s > 0:
            self._connection.call_later(pause_s, due)
        else:
            due()

    def _end_turn(self) -> None:
        """Lets the loop look whether it is to stop, after what has finished is settled."""
        with contextlib.suppress(pika_errors.ConnectionWrongStateError):  # it is closed already
            self._connection.add_callback_threadsafe(self._settle_finished)

    def _settle_finished(self) -> None:
        self._wake_scheduled = False
        done: set[int] = set()
        while self._finished:
            delivery, result = self._finished.popleft()
            match result:
                case Action.ACKNOWLEDGE:
                    done.add(delivery.delivery_tag)
                case Action.GIVE_BACK | Action.HOLD | Hold() | Replacement() if self.is_stopping:
                    self._settle(delivery, Action.GIVE_BACK)
                case Action.HOLD | Hold():
                    self._waiting_room.enter(delivery, failed=isinstance(result, Hold))
                case Action():
                    pause_s = PAUSE_S if result is Action.GIVE_BACK else 0.0
                    self._after(pause_s, delivery, partial(self._settle, delivery, result))
                case Replacement():
                    self._submit(Job(self, delivery, result), after_s=PAUSE_S)
        if done:
            self._unsettled.acknowledge(done)
        self._waiting_room.look()

    def _settle(self, delivery: Delivery, action: Action) -> None:
        if action is Action.DROP:
            self._unsettled.drop(delivery)
            return
        self._unsettled.give_back(delivery)
        if self._telemetry is not None:
            why = "not handled" if self._stop_at is None else "stopping"
            self._telemetry.settled(delivery, None, GivenBack(why))

    def _drain(self) -> None:
        """What was not begun goes back at once, by nack, which RabbitMQ 4.3 does not count; the
        heartbeat goes on while handlers finish. Cancelled first, so that it is not given to us
        again; what pika still has of it comes here before, since pika would reject it."""
        self._connection.process_data_events(time_limit=0)
        if not self.can_settle():
            return
        if self.is_registered:
            assert self._channel is not None
            self._channel.basic_cancel(self._tag)
        not_begun = [*self._waiting_room.leave(), *(job.delivery for job in self._pool.take_back())]
        self._not_begun.update((delivery.delivery_tag, delivery) for delivery in not_begun)
        for delivery in self._not_begun.values():
            self._settle(delivery, Action.GIVE_BACK)
        self._not_begun.clear()
        while self._pool.running and time.monotonic() < (self._stop_at or 0):
            self._connection.process_data_events(time_limit=0.1)
        self._settle_finished()
        if self._unsettled:
            logger.warning(
                "Consumer '%s' leaves %d unfinished messages to be delivered again",
                self._tag,
                len(self._unsettled),
            )

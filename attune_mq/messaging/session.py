"""One connection of a consumer, from its opening to its end. All on the connection's thread, but
for :meth:`Session.finished`, :meth:`Session.stop` and what only reads."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.broker.infrastructure import bind_queue, declare_queue
from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.processing import Action
from attune_mq.messaging.status import Progress
from attune_mq.messaging.workers import WorkerPool
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.declarations import private_declarations
from attune_mq.topology.model import Topology

logger = logging.getLogger(__name__)

TURN_S = 1.0
"""The loop turns at least this often; a finished handler or a request to stop wakes it at once."""
GIVE_BACK_PAUSE_S = 5.0
"""How long an original is kept whose copy could not be published, before it is delivered again."""


class Session:
    """Consumes until the connection is lost (which raises) or it is told to stop.

    ``prepare`` makes sure, each time before consuming begins, that the infrastructure is there.
    """

    def __init__(
        self,
        connection: pika.BlockingConnection,
        *,
        topology: Topology,
        spec: ConsumerSpec,
        tag: str,
        prefetch: int,
        pool: WorkerPool[Delivery],
        progress: Progress,
        prepare: Callable[[], object],
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._spec = spec
        self._tag = tag
        self._prefetch = prefetch
        self._pool = pool
        self._progress = progress
        self._prepare = prepare
        self._channel: BlockingChannel | None = None
        self._queue = ""
        self._unsettled: dict[int, Delivery] = {}
        self._held: dict[int, Any] = {}
        self._finished: deque[tuple[Delivery, Action]] = deque()
        self._wake_lock = threading.Lock()
        self._wake_scheduled = False
        self._stop_at: float | None = None

    @property
    def in_flight(self) -> int:
        """Messages that the broker gave us and that are not settled."""
        return len(self._unsettled)

    @property
    def is_registered(self) -> bool:
        """Whether the broker, as far as is known here, has the tag on an open channel."""
        channel = self._channel
        return (
            channel is not None
            and self._connection.is_open
            and channel.is_open
            and self._tag in channel.consumer_tags
        )

    def run(self, on_consuming: Callable[[], None]) -> None:
        """A channel that closes and a consumer that is cancelled are begun anew on the same
        connection: handlers that run may still be acknowledged there."""
        while self._stop_at is None:
            self._subscribe()
            on_consuming()
            while self._stop_at is None and self.is_registered:
                self._connection.process_data_events(time_limit=TURN_S)
            if self._stop_at is None:
                self._progress.lost("the broker cancelled the consumer or closed its channel")
        self._progress.stopping()
        self._drain()

    def stop(self, deadline_s: float) -> None:
        """From any thread: begin nothing new, finish until the deadline, then leave."""
        self._stop_at = time.monotonic() + deadline_s
        self._wake()

    def finished(self, delivery: Delivery, action: Action) -> None:
        """From a worker thread: this is to happen to the original."""
        self._finished.append((delivery, action))
        self._wake()

    def _subscribe(self) -> None:
        self._prepare()
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
            self._unsettled.clear()
            self._held.clear()
        self._channel.basic_qos(prefetch_count=self._prefetch)
        self._queue = self._own_queue(self._channel)
        self._channel.basic_consume(self._queue, self._on_message, consumer_tag=self._tag)
        self._progress.consuming(self._queue)

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

    def _on_message(
        self,
        channel: BlockingChannel,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        delivery = Delivery(
            body=body,
            properties=properties,
            delivery_tag=method.delivery_tag or 0,
            redelivered=bool(method.redelivered),
            exchange=method.exchange or "",
            routing_key=method.routing_key or "",
            queue=self._queue,
            consumer_tag=self._tag,
            channel=channel,
        )
        self._unsettled[delivery.delivery_tag] = delivery
        hold_s = delivery.hold_s()
        if self._stop_at is not None:
            self._settle(delivery, Action.GIVE_BACK)
        elif hold_s > 0:
            self._hold(delivery, hold_s, lambda: self._pool.submit(delivery))
        else:
            self._pool.submit(delivery)

    def _hold(self, delivery: Delivery, hold_s: float, then: Callable[[], None]) -> None:
        def release() -> None:
            if self._held.pop(delivery.delivery_tag, None) is not None:
                then()

        self._held[delivery.delivery_tag] = self._connection.call_later(hold_s, release)

    def _wake(self) -> None:
        with self._wake_lock:
            if self._wake_scheduled:
                return
            try:
                self._connection.add_callback_threadsafe(self._settle_finished)
            except pika_errors.ConnectionWrongStateError:
                return  # it is closed: nothing can be settled on it any more
            self._wake_scheduled = True

    def _settle_finished(self) -> None:
        with self._wake_lock:
            self._wake_scheduled = False
        done: set[int] = set()
        while self._finished:
            delivery, action = self._finished.popleft()
            if delivery.delivery_tag not in self._unsettled or not self._is_current(delivery):
                continue  # of a channel that is gone: the broker has given it to somebody again
            if action is Action.ACKNOWLEDGE:
                done.add(delivery.delivery_tag)
            elif action is Action.GIVE_BACK and self._stop_at is None:
                give_back = self._give_back(delivery)
                self._hold(delivery, GIVE_BACK_PAUSE_S, give_back)
            else:
                self._settle(delivery, action)
        if done:
            self._acknowledge(done)

    def _give_back(self, delivery: Delivery) -> Callable[[], None]:
        return lambda: self._settle(delivery, Action.GIVE_BACK)

    def _acknowledge(self, done: set[int]) -> None:
        """One acknowledgement for the run of done messages that begins with the oldest unsettled:
        nothing else lies below its end. One each for the others."""
        assert self._channel is not None
        run: list[int] = []
        for tag in self._unsettled:
            if tag not in done:
                break
            run.append(tag)
        if run:
            self._channel.basic_ack(run[-1], multiple=len(run) > 1)
        for tag in sorted(done.difference(run)):
            self._channel.basic_ack(tag)
        for tag in done:
            del self._unsettled[tag]

    def _settle(self, delivery: Delivery, action: Action) -> None:
        """Only ever on the channel that it came on, and once."""
        channel = self._channel
        if channel is None or not self._is_current(delivery):
            return
        self._unsettled.pop(delivery.delivery_tag, None)
        if action is Action.DROP:
            channel.basic_reject(delivery.delivery_tag, requeue=False)
        else:
            channel.basic_nack(delivery.delivery_tag, requeue=True)

    def _is_current(self, delivery: Delivery) -> bool:
        channel = self._channel
        return channel is not None and delivery.channel is channel and channel.is_open

    def _drain(self) -> None:
        """What was not begun goes back at once, by nack, which RabbitMQ 4.3 does not count; the
        heartbeat goes on while handlers finish."""
        waiting = self._pool.take_back()
        waiting += [self._unsettled[tag] for tag in list(self._held) if tag in self._unsettled]
        self._held.clear()
        for delivery in waiting:
            self._settle(delivery, Action.GIVE_BACK)
        if self.is_registered and self._channel is not None:
            self._channel.basic_cancel(self._tag)
        while self._pool.running and time.monotonic() < (self._stop_at or 0):
            self._connection.process_data_events(time_limit=0.1)
        self._settle_finished()
        if self._unsettled:
            logger.warning(
                "Consumer '%s' leaves %d unfinished messages to be delivered again",
                self._tag,
                len(self._unsettled),
            )

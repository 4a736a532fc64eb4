"""A consumer: one connection, one channel, one consumer tag; 1 + concurrency threads.

How a message travels: the leader of the I/O loop takes the delivery (:mod:`subscription`); a worker
thread reads and handles it (:mod:`handlers`), decides what becomes of it (:mod:`settlement`), and,
where that is a retry or a dead letter, publishes the copy and waits for its confirm. Only then is
the original acknowledged, and only on the channel that it came on (:mod:`channel_session`).

What if the power fails here, or the connection is lost?

=====================================  ==========================================================
before the handler begins              the original comes again; it may have been tried 0 times
while the handler runs                 the original comes again; on a classic queue a consumer
                                       first writes down that it came again (a copy, see below)
after the handler returned, before     the original comes again: the handler meets the same
the acknowledgement arrived            ``message_id`` a second time
while a copy is being published        the original comes again; the copy may be there as well
after the copy's confirm, before the   both are there: the message is tried, or dead-lettered,
acknowledgement arrived                once more than it should (what may itself have killed a
                                       process is not begun meanwhile: :mod:`inflight_republishes`)
after the acknowledgement arrived      it is over: handled, or its copy is confirmed in a queue
=====================================  ==========================================================
"""

from __future__ import annotations

import logging
import threading
from typing import Literal

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.reconnecting import Reconnecting
from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.amqp.worker_pool import WorkerPool
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.consuming.channel_session import Job
from attune_mq.consuming.consumer_tags import ConsumerTags
from attune_mq.consuming.handlers import Handlers
from attune_mq.consuming.in_place import InPlace
from attune_mq.consuming.inflight_republishes import InFlightRepublishes
from attune_mq.consuming.pausing import Pause
from attune_mq.consuming.processing import Action, Processor, Result
from attune_mq.consuming.status import ConsumerStatus, Progress
from attune_mq.consuming.stream_reading import reading_of
from attune_mq.consuming.subscription import Subscription
from attune_mq.errors import AttuneError, LifecycleError
from attune_mq.forking import OwnProcess, after_fork
from attune_mq.message.stream_positions import PositionStore, StreamDelivery
from attune_mq.message.telemetry import Telemetry, guarded
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology

logger = logging.getLogger(__name__)

_tags = ConsumerTags()
_republishes = InFlightRepublishes()
"""Of all consumers of this process, since they die together."""

DEFAULT_STOP_DEADLINE_S = 30.0
_ENDING_S = 5.0
"""A deadline against hanging for threads that have nothing left to do."""


class Consumer:
    """Consumes the queue that the topology wires to ``tag``, and survives what can happen.

    ``tag``: a key of the file's ``consumers``. The tag that the broker sees is the same, or
    ``tag@instance`` where an ``instance`` is named, which several processes side by side should do
    so that people who watch can tell them apart. A second consumer with the same tag in one
    process is refused before the broker is asked.
    ``publisher``: for the copies of retried and dead-lettered messages; its own unless given.
    ``concurrency``, ``prefetch``: the topology's unless given. ``setup``: whether, on every new
    connection, what the topology lacks is made or only verified. ``telemetry``: is notified of all
    that happens.

    It reconnects for ever, with a jittered pause, to any of the hosts; it notices a deleted queue,
    a cancelled consumer and a closed channel, connects anew, sets the topology up again and goes
    on. :attr:`status` says what it is doing *now*.

    A failed message is tried again in a retry queue's time, or, where its queue has none, is held
    by a consumer for the delay, where it counts against the ``prefetch``: give queues whose
    messages wait for more than seconds a ``retry`` with a ``backoff``.

    A handler may take as long as it needs, up to the broker's ``consumer_timeout``, 30 minutes
    unless it is configured: then RabbitMQ delivers the message again.

    A message can be handled twice (the table above says when), never not at all. It is lost where
    the file says so (``dead_letter: false``: what fails for good is dropped, with an error in the
    log), and where an operator deletes its queue, also while a consumer has it. Where a copy cannot
    be published, since its exchange was deleted or the broker is full, the original stays in its
    queue with us, unacknowledged, and the copy is tried again every 5 s; the handler is not called
    again.
    """

    def __init__(
        self,
        topology: Topology,
        tag: str,
        handlers: Handlers,
        broker: BrokerSettings | str | None = None,
        *,
        publisher: Publisher | None = None,
        instance: str | None = None,
        concurrency: int | None = None,
        prefetch: int | None = None,
        setup: Literal["create", "verify"] = "create",
        telemetry: Telemetry | None = None,
        positions: PositionStore | None = None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._topology = expand(topology)
        self._spec = self._topology.consumer(tag)
        self._settings = BrokerSettings.of(broker)
        self._setup = setup
        self._prefetch = self._spec.prefetch_count if prefetch is None else prefetch
        self._concurrency = concurrency or self._spec.concurrency
        self.tag = tag if instance is None else f"{tag}@{instance}"
        self._reading = reading_of(self._topology, tag, positions, self._concurrency, runtime)
        self._own_publisher = publisher is None
        self._publisher = publisher or Publisher(
            self._topology,
            self._settings,
            source_service=self._spec.service,
            telemetry=telemetry,
            runtime=runtime,
        )
        self._telemetry = guarded(telemetry)
        queue = self._topology.queues[self._spec.queue].name
        self._progress = Progress(self.tag, queue, self._telemetry, self._spec.deadline_ms, runtime)
        self._pause = Pause(self.tag, self._telemetry, runtime)
        self._processor = Processor(
            self._topology,
            self._spec,
            handlers,
            self._publisher,
            self._progress,
            self._pause,
            self._telemetry,
            runtime,
        )
        self._runtime = runtime
        self._life = runtime.lock()
        self._process = OwnProcess()
        self._stopping = runtime.event()
        reading = self._reading
        self._in_place = (
            InPlace(reading, self._processor, self._stopping, runtime) if reading else None
        )
        self._stop_at = 0.0
        self._reconnecting = Reconnecting(self._settings, self, name=self.tag, runtime=runtime)
        self._subscription: Subscription | None = None
        self._thread: threading.Thread | None = None
        self._loop: threading.Thread | None = None
        self._pool: WorkerPool[tuple[Subscription, Job]] | None = None
        after_fork(self._leave_to_parent)

    @property
    def status(self) -> ConsumerStatus:
        """What it is doing at this moment, and what it has done so far. Safe from any thread."""
        subscription = self._subscription
        return self._progress.status(
            self._pause,
            in_flight=subscription.in_flight if subscription else 0,
            registered=subscription is not None and subscription.is_registered,
            is_alive=self._is_alive,
            concurrency=self._concurrency,
            liveness=subscription.liveness if subscription else None,
        )

    @property
    def _is_alive(self) -> bool:
        loop, pool = self._loop, self._pool
        return loop is not None and pool is not None and loop.is_alive() and pool.is_alive

    def start(self) -> None:
        """Runs in a thread of its own. Raises as :meth:`run` does, and
        :class:`~attune_mq.errors.LifecycleError` for a consumer that was stopped before, too."""
        if not self._process.has_begun and self._stopping.is_set():
            raise self._is_over("stopped")
        self._begin()
        self._thread = self._runtime.thread(self.tag, self._run_claimed)
        self._thread.start()

    def run(self) -> None:
        """Consumes in this thread until :meth:`stop` is called from another.

        Raises :class:`~attune_mq.errors.DuplicateConsumerTag`, and
        :class:`~attune_mq.errors.LifecycleError` for a consumer that was started before, in this
        process or before a fork (:class:`~attune_mq.errors.ForkedProcess`): it lives once, make a
        new one. One that was stopped before returns at once. A broker that is unreachable,
        or refuses, is not raised but waited for, and said in the log and by :attr:`status`.
        """
        self._begin()
        self._run_claimed()

    def stop(self, deadline_s: float = DEFAULT_STOP_DEADLINE_S) -> None:
        """Asks it to stop; returns at once. Nothing new begins; what is being handled may finish
        until the deadline; what was not begun goes back to the queue now. Called again with
        ``0`` it stops at once: what is being handled goes back too, and may be done twice. Before
        :meth:`start`, that raises then.

        From any thread, but not from a signal handler, which might wait for a lock that its own
        thread holds; :meth:`Service.run` takes care of that. In a fork of the process that started
        it, it does nothing.
        """
        if self._process.is_another:
            return
        self._stop_at = self._runtime.monotonic() + deadline_s
        self._stopping.set()
        subscription = self._subscription
        if subscription is not None:
            subscription.stop(deadline_s)
        self._reconnecting.end()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the thread to end; whether it has."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _begin(self) -> None:
        with self._life:
            self._process.require(f"consumer '{self.tag}'")
            if self._process.has_begun:
                raise self._is_over("started")
            self._claim = _tags.claim(self._settings, self.tag)
            self._process.begin()

    def _leave_to_parent(self) -> None:
        """In a fork: what was started runs there and not here; what was not can be started."""
        self._life = self._runtime.lock()
        if self._process.has_begun:
            self._subscription = self._thread = self._loop = self._pool = None
            self._progress.leave_to_parent(f"it was started in {self._process}, not in this fork")

    def _is_over(self, was: str) -> LifecycleError:
        return LifecycleError(
            f"consumer '{self.tag}': expected one that was neither started nor stopped, got one "
            f"that was {was} before; make a new Consumer"
        )

    def _run_claimed(self) -> None:
        self._loop = threading.current_thread()
        pool = self._pool = WorkerPool(
            self._work, concurrency=self._concurrency, name=self.tag, runtime=self._runtime
        )
        try:
            self._progress.connecting()
            self._reconnecting.run()
            self._let_finish(pool)
        finally:
            self._pool = None
            pool.close(timeout_s=_ENDING_S if pool.running == 0 else 0.0)
            if self._own_publisher:
                self._publisher.close()
            if self._reading is not None:
                self._reading.end()
            self._progress.stopped()
            _tags.release(self._claim)
            logger.info("Consumer '%s' stopped", self.tag)

    def _let_finish(self, pool: WorkerPool[tuple[Subscription, Job]]) -> None:
        """Losing the connection while it stops does not interrupt running handlers."""
        while pool.running and self._runtime.monotonic() < self._stop_at:
            pool.wait_until_idle(0.1)

    # One connection, on the consumer's own thread.

    def serve(self, connection: Connection) -> AttuneError:
        assert self._pool is not None
        setup_infrastructure(
            self._topology, connection, required_by=self._spec.service, mode=self._setup
        )
        subscription = self._subscription = Subscription(
            connection,
            topology=self._topology,
            spec=self._spec,
            tag=self.tag,
            prefetch=self._prefetch,
            pool=self._pool,
            progress=self._progress,
            pause=self._pause,
            telemetry=self._telemetry,
            reading=self._reading,
            runtime=self._runtime,
        )
        if self._stopping.is_set():  # it was set when there was no subscription to stop
            subscription.stop(self._stop_at - self._runtime.monotonic())
        subscription.run()
        return connection.why_over

    def lost(self, failure: Exception, *, was_open: bool) -> None:
        """Nothing that ends a connection ends the consumer: the broker keeps the messages."""
        self._subscription = None
        if self._pool is not None:
            self._pool.take_back()  # what has not begun is of a channel that is gone
        if not self._stopping.is_set():
            self._progress.failed(failure)

    # One message, on a worker thread.

    def _work(self, item: tuple[Subscription, Job]) -> None:
        subscription, job = item
        delivery = job.delivery
        if job.replacement is None and delivery.may_be_poison:
            _republishes.wait_until_over(lambda: subscription.can_settle)
        if not subscription.can_settle:
            return  # the broker has delivered it to another consumer
        republishes: list[object] = []  # its own, from before its copy is published
        try:
            try:
                result = self._result_of(subscription, job, republishes)
            except Exception:  # a defect of ours; the message is none the worse for it
                text = "Internal error while processing a message of consumer '%s'"
                logger.exception(text, self.tag)
                result = Action.REQUEUE
            self._progress.deadlines.finished(delivery)
            subscription.finished(delivery, result)
            if republishes and result is Action.ACKNOWLEDGE:
                subscription.wait_until_settled(delivery)
        finally:
            for republish in republishes:
                _republishes.ended(republish)

    def _result_of(self, subscription: Subscription, job: Job, republishes: list[object]) -> Result:
        delivery = job.delivery

        def still_ours() -> bool:
            republishes.append(_republishes.opened())
            return subscription.can_settle

        if subscription.is_stopping:  # nothing begins any more, also before the loop has noticed
            return Action.REQUEUE
        if self._in_place is not None and isinstance(delivery, StreamDelivery):
            return self._in_place.handle(subscription, delivery)
        if job.replacement is None:
            if self._pause.cause is not None and not job.is_trial:
                return Action.HOLD
            self._progress.deadlines.begun(delivery)
            return self._processor.process(delivery, still_ours=still_ours, is_trial=job.is_trial)
        republishes.append(_republishes.opened())
        return self._processor.replace(delivery, job.replacement)

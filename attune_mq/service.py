"""A service on the topology: it sets up, consumes, publishes, and stops cleanly."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Literal, Protocol, TypeVar

from attune_mq.amqp.backoff import Backoff
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.consuming.consumer import DEFAULT_STOP_DEADLINE_S, Consumer
from attune_mq.consuming.handlers import Handler, Handlers, Probe, Sign
from attune_mq.consuming.status import ConsumerStatus
from attune_mq.consuming.wiring import tags_to_start
from attune_mq.errors import BrokerUnavailable, LifecycleError
from attune_mq.forking import OwnProcess, after_fork
from attune_mq.message.payload import Payload
from attune_mq.message.stream_positions import PositionStore
from attune_mq.message.synchronous import check_ran, check_synchronous
from attune_mq.message.telemetry import Telemetry
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.families import instantiate
from attune_mq.topology_file import TopologySource, topology_from

logger = logging.getLogger(__name__)

P = TypeVar("P", bound=Payload)
Phase = Literal["starting", "running", "stopping", "stopped"]


class BackgroundTask(Protocol):
    """Something that runs beside the consumers: an outbox relay, a timer."""

    def start(self) -> object: ...

    def stop(self, deadline_s: float) -> object: ...


class Service:
    """A service and everything that it needs::

        service = Service("notifier")

        @service.on(NotificationCreated)
        def tell(message: Message[NotificationCreated]) -> None:
            print(message.payload.activity)

        service.run()

    ``name``: the service, as the file's ``consumers`` and ``publishers`` name it. Each consumer of
    the service of whose types it handles one is started, with its own connection and tag.
    ``topology``: a topology, a path, or nothing for the default file. ``family`` with its
    ``parameters``: the service belongs to that instance, whose consumers it runs.
    ``instance``: tells several processes of one service apart, see :class:`Consumer`.
    ``setup="verify"``: the infrastructure is managed elsewhere and only looked at.
    ``wait_s``: how long to wait, at the start, for a broker that is not there yet.
    ``telemetry``: is notified of all that consumers and publisher do.
    ``positions``: where consumers of streams with ``offset: stored`` keep theirs, such as
    ``attune_mq.transactional.StreamPositions``.

    A service lives once: :meth:`start` or :meth:`run`, then :meth:`stop`. For another life make
    another service; its handlers are registered anew. One that was started lives in that process
    alone: in a fork it is stopped, :meth:`start` raises :class:`~attune_mq.errors.ForkedProcess`,
    and its ``publisher`` publishes over a connection of the fork's own.
    """

    def __init__(
        self,
        name: str,
        topology: TopologySource = None,
        broker: BrokerSettings | str | None = None,
        *,
        family: str | None = None,
        instance: str | None = None,
        setup: Literal["create", "verify"] = "create",
        wait_s: float = 0.0,
        telemetry: Telemetry | None = None,
        positions: PositionStore | None = None,
        **parameters: str | int,
    ) -> None:
        self.name = name
        self.full_topology = topology_from(topology)
        self.topology = self.full_topology
        if family is not None:
            self.topology = instantiate(self.full_topology, family, **parameters)
        self.settings = BrokerSettings.of(broker)
        self.publisher = Publisher(
            self.topology, self.settings, source_service=name, telemetry=telemetry
        )
        self.handlers = Handlers()
        self.instance = instance
        self.phase: Phase = "starting"
        self._setup = setup
        self._wait_s = wait_s
        self._telemetry = telemetry
        self._positions = positions
        self._tasks: list[BackgroundTask] = []
        self._running_tasks: list[BackgroundTask] = []
        self._consumers: list[Consumer] = []
        self._life = threading.RLock()  # of the thread that starts or stops it
        self._has_begun = False
        self._is_to_stop = False
        # A signal handler may interrupt its own thread anywhere, also while that holds a lock which
        # the handler would wait for. Putting into this queue is safe even then.
        self._requests: SimpleQueue[None] = SimpleQueue()
        self._process = OwnProcess()
        after_fork(self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        """In a fork: what was started runs there and not here; what was not can be started."""
        self._life = threading.RLock()
        self._requests = SimpleQueue()
        if self._process.has_begun:
            self._running_tasks = []
            self.phase = "stopped"

    def on(self, payload: type[P]) -> Callable[[Handler[P]], Handler[P]]:
        """Registers the handler of a payload class; see :class:`Handlers`."""
        return self.handlers.on(payload)

    def depends_on(self, name: str, *signs: Sign, probe: Probe | None = None) -> None:
        """Which errors say that ``name`` is unavailable; see :meth:`Handlers.depends_on`."""
        self.handlers.depends_on(name, *signs, probe=probe)

    def add_background_task(self, task: BackgroundTask) -> None:
        """Starts it before the consumers and stops it after them.

        Raises :class:`~attune_mq.errors.NotSynchronous` where its ``start`` or ``stop`` is a
        coroutine function, and :class:`~attune_mq.errors.LifecycleError` once the service was
        started: it would not be.
        """
        name = type(task).__name__
        check_synchronous(task.start, f"start of {name}")
        check_synchronous(task.stop, f"stop of {name}")
        with self._life:
            if self._has_begun or self._is_to_stop:
                expected = "expected add_background_task before start"
                raise LifecycleError(f"service '{self.name}': {expected}")
            self._tasks.append(task)

    @property
    def consumers(self) -> tuple[ConsumerStatus, ...]:
        """How each of its consumers is now; none before it has started them."""
        return tuple(consumer.status for consumer in self._consumers)

    def start(self) -> None:
        """Sets the infrastructure up and starts consuming, in threads. Once.

        Raises what :func:`setup_infrastructure` raises, and
        :class:`~attune_mq.topology.model.UnknownName` where handlers are registered and the file
        has no consumer for any of them: nothing was started then, and it may be called again. What
        a background task or a consumer raises is raised, too: what had been started by then is
        stopped, and the service with it.

        Raises :class:`~attune_mq.errors.LifecycleError` for a service that was started before, or
        stopped before or meanwhile: nothing changes then.
        """
        with self._life:
            self._check_unused()
            tags = tags_to_start(self.topology, self.name, self.handlers.message_types)
            self._set_up()
            self._has_begun = True
            self._process.begin()
            try:
                self._start_all(tags)
            except BaseException:
                self._stop_all(0)
                raise

    def _start_all(self, tags: list[str]) -> None:
        for task in self._tasks:
            self._check_goes_on()
            check_ran(task.start(), f"start of {type(task).__name__}")
            self._running_tasks.append(task)
        for tag in tags:
            self._check_goes_on()
            consumer = self._consumer(tag)
            consumer.start()
            self._consumers.append(consumer)
        self._check_goes_on()
        self.phase = "running"

    def _check_unused(self) -> None:
        self._process.require(f"service '{self.name}'")
        if self._has_begun or self._is_to_stop:
            raise LifecycleError(
                f"service '{self.name}': expected one that was neither started nor stopped, got "
                f"one that is {self.phase}; make a new Service"
            )

    def _check_goes_on(self) -> None:
        if self._is_to_stop:
            raise _StopRequested(f"service '{self.name}': stopped during start-up")

    def run(self, *, deadline_s: float = DEFAULT_STOP_DEADLINE_S) -> None:
        """:meth:`start`, then consume until SIGTERM or SIGINT (Ctrl-C), then drain.

        ``deadline_s``: how long handlers may take to finish. A second signal stops at once. Raises
        what :meth:`start` raises; the service is stopped then, whatever it was.

        Raises :class:`~attune_mq.errors.LifecycleError` for a service that was started or stopped
        before, and outside of the main thread, where Python has no signals: nothing changes then.
        """
        self._check_unused()
        if threading.current_thread() is not threading.main_thread():
            raise LifecycleError(
                f"service '{self.name}': expected run in the main thread, which gets the signals, "
                f"got it in '{threading.current_thread().name}'; call start and stop instead"
            )
        restore = [(one, signal.signal(one, lambda *_: self.request_stop())) for one in _SIGNALS]
        try:
            self.start()
            # A signal that comes between Python's last look for one and its falling asleep wakes
            # nobody: so look again, now and then.
            while not self._is_to_stop and not self._requested_within(_LOOK_AGAIN_S):
                pass
        except _StopRequested:
            logger.info("Stopped during start-up")
        finally:
            self.stop(deadline_s)
            for one, handler in restore:
                signal.signal(one, handler)

    def request_stop(self) -> None:
        """Lets :meth:`run` end, from any thread. A second time: at once."""
        self._requests.put(None)

    def stop(self, deadline_s: float = DEFAULT_STOP_DEADLINE_S) -> None:
        """Drains the consumers, stops the background tasks, closes the publisher.

        Handlers may take ``deadline_s`` to finish; what has not finished then is delivered again.
        Called again meanwhile, the new deadline counts; once it is stopped nothing happens. Before
        :meth:`start` it ends the service, too. :meth:`start` in another thread then raises.
        """
        self._is_to_stop = True
        if self.phase == "stopping":
            for consumer in self._consumers:
                consumer.stop(deadline_s)
        with self._life:
            if self.phase != "stopped":
                self._stop_all(deadline_s)

    def _stop_all(self, deadline_s: float) -> None:
        self.phase = "stopping"
        if self._consumers:
            logger.info("Stopping: handlers have %g s to finish", deadline_s)
        stop_at = self._stop_consumers(deadline_s)
        while self._running_tasks:
            task = self._running_tasks.pop()
            name = type(task).__name__
            try:
                check_ran(task.stop(max(1.0, stop_at - time.monotonic())), f"stop of {name}")
            except Exception:  # the others are to be stopped all the same
                logger.exception("%s failed to stop cleanly", name)
        self.publisher.close()
        self.phase = "stopped"

    def _stop_consumers(self, deadline_s: float) -> float:
        """Returns when they have stopped, or did not in time. Returns the time by which to be done,
        on the monotonic clock."""
        stop_at = time.monotonic() + deadline_s
        for consumer in self._consumers:
            consumer.stop(deadline_s)
        while not all(consumer.join(0) for consumer in self._consumers):
            if time.monotonic() >= stop_at + _GRACE_S:
                break
            if self._requested_within(0.1):
                stop_at = time.monotonic()
                for consumer in self._consumers:
                    consumer.stop(0)
        return stop_at

    def _requested_within(self, timeout_s: float) -> bool:
        with suppress(Empty):
            self._requests.get(timeout=timeout_s)
            return True
        return False

    def _stops_within(self, pause_s: float) -> bool:
        until_s = time.monotonic() + pause_s
        while not self._is_to_stop and (left_s := until_s - time.monotonic()) > 0:
            if self._requested_within(min(left_s, _LOOK_AGAIN_S)):
                return True
        return self._is_to_stop

    def _consumer(self, tag: str) -> Consumer:
        return Consumer(
            self.topology,
            tag,
            self.handlers,
            self.settings,
            publisher=self.publisher,
            instance=self.instance,
            setup=self._setup,
            telemetry=self._telemetry,
            positions=self._positions,
        )

    def _set_up(self) -> None:
        """The whole file, and the instance that the service belongs to."""
        topologies = [self.full_topology]
        if self.topology is not self.full_topology:
            topologies.append(self.topology)
        deadline = time.monotonic() + self._wait_s
        backoff = Backoff()
        while True:
            try:
                for each in topologies:
                    setup_infrastructure(
                        each, self.settings, required_by=self.name, mode=self._setup
                    )
                return
            except BrokerUnavailable as error:
                pause_s = backoff.next_s()
                if time.monotonic() + pause_s > deadline:
                    raise
                logger.warning("Waiting for the broker: %s", error)
                if self._stops_within(pause_s):
                    raise _StopRequested("asked to stop while waiting for the broker") from error


class _StopRequested(LifecycleError):
    """There is nothing to start any more."""


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_AGAIN_S = 0.5
_GRACE_S = 5.0
"""How long a consumer may take to leave the broker once its deadline is over."""

"""A service on the topology: it sets up, consumes, publishes, and stops in order."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Literal, Protocol, TypeVar

from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.report import SetupReport
from attune_mq.broker.settings import BrokerSettings
from attune_mq.errors import BrokerUnavailable
from attune_mq.messaging.backoff import Backoff
from attune_mq.messaging.consumer import DEFAULT_STOP_DEADLINE_S, Consumer
from attune_mq.messaging.handlers import Handler, Handlers
from attune_mq.messaging.payload_model import Payload
from attune_mq.messaging.publisher import Publisher
from attune_mq.messaging.status import ConsumerStatus
from attune_mq.topology.contracts import ConsumerSpec
from attune_mq.topology.families import instantiate
from attune_mq.topology.model import Topology, UnknownName
from attune_mq.topology_file import load_topology

logger = logging.getLogger(__name__)

P = TypeVar("P", bound=Payload)


class Background(Protocol):
    """Something that runs beside the consumers: an outbox relay, a timer."""

    def start(self) -> None: ...

    def stop(self, deadline_s: float) -> object: ...


class Service:
    """Everything that a service needs, in ten lines::

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
    """

    def __init__(
        self,
        name: str,
        topology: Topology | str | os.PathLike[str] | None = None,
        broker: BrokerSettings | str | None = None,
        *,
        family: str | None = None,
        instance: str | None = None,
        setup: Literal["create", "verify"] = "create",
        wait_s: float = 0.0,
        **parameters: str | int,
    ) -> None:
        self.name = name
        self.whole = topology if isinstance(topology, Topology) else load_topology(topology)
        self.topology = self.whole
        if family is not None:
            self.topology = instantiate(self.whole, family, **parameters)
        self.settings = BrokerSettings.of(broker)
        self.publisher = Publisher(self.topology, self.settings, source_service=name)
        self.handlers = Handlers()
        self._instance = instance
        self._setup = setup
        self._wait_s = wait_s
        self._backgrounds: list[Background] = []
        self._consumers: list[Consumer] = []
        self._stop_requested = threading.Event()
        self._deadline_s = DEFAULT_STOP_DEADLINE_S

    def on(self, payload: type[P]) -> Callable[[Handler[P]], Handler[P]]:
        """Registers the handler of a payload class; see :class:`Handlers`."""
        return self.handlers.on(payload)

    def run_beside(self, background: Background) -> None:
        """Starts it before the consumers and stops it after them."""
        self._backgrounds.append(background)

    @property
    def consumers(self) -> tuple[ConsumerStatus, ...]:
        return tuple(consumer.status for consumer in self._consumers)

    def start(self) -> None:
        """Sets the infrastructure up and starts consuming, in threads.

        Raises what :func:`setup_infrastructure` raises, and
        :class:`~attune_mq.topology.model.UnknownName` where handlers are registered and the file
        has no consumer for any of them.
        """
        tags = self._tags()
        self._set_up()
        for background in self._backgrounds:
            background.start()
        self._consumers = [self._consumer(tag) for tag in tags]
        for consumer in self._consumers:
            consumer.start()

    def run(self, *, deadline_s: float = DEFAULT_STOP_DEADLINE_S) -> None:
        """:meth:`start`, then consume until SIGTERM or SIGINT (Ctrl-C), then drain.

        ``deadline_s``: how long handlers may take to finish. A second signal stops at once. Call
        it from the main thread.
        """
        self._deadline_s = deadline_s
        restore = [(one, signal.signal(one, self._on_signal)) for one in _SIGNALS]
        try:
            self.start()
            self._stop_requested.wait()
            self.stop(deadline_s)
        finally:
            for one, handler in restore:
                signal.signal(one, handler)
            self.publisher.close()

    def request_stop(self) -> None:
        """Lets :meth:`run` end, from any thread."""
        self._stop_requested.set()

    def stop(self, deadline_s: float = DEFAULT_STOP_DEADLINE_S) -> None:
        """Drains the consumers, stops what runs beside them, closes the publisher."""
        logger.info("Stopping: handlers have %g s to finish", deadline_s)
        stop_at = time.monotonic() + deadline_s
        for consumer in self._consumers:
            consumer.stop(deadline_s)
        for consumer in self._consumers:
            consumer.join(max(0.0, stop_at - time.monotonic()) + _GRACE_S)
        for background in self._backgrounds:
            background.stop(max(1.0, stop_at - time.monotonic()))
        self.publisher.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._stop_requested.is_set():
            for consumer in self._consumers:
                consumer.stop(0)
        self._stop_requested.set()

    def _tags(self) -> list[str]:
        handled = self.handlers.message_types
        own = {tag: c for tag, c in self.topology.consumers.items() if c.service == self.name}
        tags = [tag for tag, spec in own.items() if _takes_any(spec, handled)]
        for tag in own.keys() - set(tags):
            logger.info("Consumer '%s' is not started: nothing here handles its types", tag)
        if handled and not tags:
            raise UnknownName(
                f"{self.topology.sources.file} consumers: expected a consumer with `service: "
                f"{self.name}` that handles one of {', '.join(sorted(handled))}, found none"
            )
        return tags

    def _consumer(self, tag: str) -> Consumer:
        return Consumer(
            self.topology,
            tag,
            self.handlers,
            self.settings,
            publisher=self.publisher,
            instance=self._instance,
            setup=self._setup,
        )

    def _set_up(self) -> SetupReport:
        """The whole file, and the instance that the service belongs to."""
        deadline = time.monotonic() + self._wait_s
        backoff = Backoff()
        while True:
            try:
                report = setup_infrastructure(self.whole, self.settings, mode=self._setup)
                if self.topology is not self.whole:
                    report = setup_infrastructure(self.topology, self.settings, mode=self._setup)
                return report
            except BrokerUnavailable as error:
                pause_s = backoff.next_s()
                if time.monotonic() + pause_s > deadline or self._stop_requested.wait(pause_s):
                    raise
                logger.warning("Waiting for the broker: %s", error)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE_S = 5.0
"""How long a consumer may take to leave the broker once its deadline is over."""


def _takes_any(spec: ConsumerSpec, handled: frozenset[str]) -> bool:
    """Whether one of the types that the file gives a consumer is handled; all are where it gives
    none, or ``"*"``."""
    types = frozenset(spec.handles)
    return bool(handled & types) or (bool(handled) and (not types or "*" in types))

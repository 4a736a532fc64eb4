"""What is read at a scrape: consumers and publisher of this process, queues, an outbox."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, get_args

from prometheus_client.core import Metric as Family

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.inspection import QueueInspector
from attune_mq.broker.management import ManagementClient
from attune_mq.broker.observation import listed_queues
from attune_mq.broker.status import count_queues
from attune_mq.consuming.status import State
from attune_mq.message.labels import LabelValues
from attune_mq.metrics import table
from attune_mq.metrics.counters import Labels, gauge
from attune_mq.service import Service
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology

logger = logging.getLogger(__name__)

T = TypeVar("T")
CAUSES = ("unroutable", "refused", "unconfirmed", "other")
DEPTH_MAX_AGE_S = 60.0
"""How old a depth may be that stands in while a busy broker is too slow to answer."""


class Query(Generic[T]):
    """``ask`` runs in a thread of its own, once at a time, so that a scrape does not wait for it.

    :meth:`begin` starts it, unless the last one still runs: who hangs is not asked twice.
    :meth:`answer` waits until the deadline. Where the answer has not come by then, the last one
    stands in, unless it is older than ``max_age_s``; then there is none, and what is not known is
    left out of the scrape.
    """

    def __init__(self, ask: Callable[[], T], *, name: str, max_age_s: float = 0.0) -> None:
        self._ask = ask
        self._name = name
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._answer: T | None = None
        self._answered_at = float("-inf")
        self._failed = False

    def begin(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def answer(self, deadline: float) -> T | None:
        """``deadline``: on the monotonic clock. Call :meth:`begin` before."""
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        in_time = thread is not None and not thread.is_alive()
        recent = time.monotonic() - self._answered_at <= self._max_age_s
        return self._answer if in_time or recent else None

    def _run(self) -> None:
        try:
            self._answer, self._answered_at = self._ask(), time.monotonic()
            self._failed = False
        except Exception as error:
            self._answer, self._answered_at = None, float("-inf")
            level = logging.DEBUG if self._failed else logging.WARNING  # once until it answers
            logger.log(level, "Metrics: %s not available: %s", self._name, error)
            self._failed = True


class Source:
    """Something that is read at each scrape. ``queries`` are begun before any is waited for."""

    queries: tuple[Query[Any], ...] = ()

    def families(self, deadline: float) -> Iterator[Family]:
        """``deadline``: on the monotonic clock."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes its connection, if it has one."""


class Due(Protocol):
    """``attune_mq.transactional.Backlog``: what is due and not confirmed, and for how long."""

    @property
    def messages(self) -> int: ...

    @property
    def oldest_age_s(self) -> float: ...


class Failing(Due, Protocol):
    """``attune_mq.transactional.Failing``: what was not published, for one of :data:`CAUSES`."""

    @property
    def cause(self) -> str: ...


class ProcessState(Source):
    """Consumers and publisher of this process, from memory."""

    def __init__(self, service: Service, labels: LabelValues) -> None:
        self._service = service
        self._labels = labels

    def families(self, deadline: float) -> Iterator[Family]:
        statuses = {self._labels.consumer(one.tag): one for one in self._service.consumers}
        states = (
            ((*labels, state), float(status.state == state))
            for labels, status in statuses.items()
            for state in get_args(State)
        )
        specs = self._service.topology.consumers
        prefetches = {
            self._labels.consumer(tag): spec.prefetch_count for tag, spec in specs.items()
        }
        yield gauge(table.CONSUMER_STATE, states)
        yield gauge(table.IN_FLIGHT, ((one, status.in_flight) for one, status in statuses.items()))
        yield gauge(table.PREFETCH, ((one, prefetches[one]) for one in statuses))
        yield gauge(table.CONFIRMS_WAITING, [((), self._service.publisher.unconfirmed_count)])


class QueueDepths(Source):
    """Of the queues of a topology that do not belong to a connection: ready messages and consumers
    by passive declarations, unacknowledged messages by the HTTP API where there is one."""

    def __init__(
        self,
        topology: Topology,
        settings: BrokerSettings,
        labels: LabelValues,
        management: ManagementClient | None,
    ) -> None:
        self._labels: dict[str, Labels] = {
            queue.name: (labels.queue(queue.name), queue.purpose)
            for queue in expand(topology).queues.values()
            if not queue.belongs_to_a_connection
        }
        self._inspector = QueueInspector(settings)
        self._vhost = virtual_host(settings.urls[0])
        self._counts = Query(
            lambda: count_queues(self._inspector, self._labels),
            name="depth of queues",
            max_age_s=DEPTH_MAX_AGE_S,
        )
        self._unacked = Query(
            self._count_unacked,
            name="number of unacknowledged messages",
            max_age_s=DEPTH_MAX_AGE_S,
        )
        self._management = management
        self.queries = (self._counts, self._unacked) if management else (self._counts,)

    def close(self) -> None:
        self._inspector.close()

    def families(self, deadline: float) -> Iterator[Family]:
        there, _ = self._counts.answer(deadline) or ({}, {})
        found = [(self._labels[name], one) for name, one in there.items()]
        yield gauge(table.QUEUE_READY, ((labels, one.messages or 0) for labels, one in found))
        yield gauge(table.QUEUE_CONSUMERS, ((labels, one.consumers or 0) for labels, one in found))
        yield gauge(table.QUEUE_UNACKED, (self._unacked.answer(deadline) or {}).items())

    def _count_unacked(self) -> dict[Labels, int]:
        assert self._management is not None
        listed = listed_queues(self._management, self._vhost)
        return {
            labels: listed[name].unacknowledged or 0
            for name, labels in self._labels.items()
            if name in listed and listed[name].unacknowledged is not None
        }


class OutboxBacklog(Source):
    """``ask``: what is due in the outbox. May wait, and raise: then it is left out."""

    def __init__(self, ask: Callable[[], Due]) -> None:
        self._due = Query(ask, name="outbox")
        self.queries = (self._due,)

    def families(self, deadline: float) -> Iterator[Family]:
        due = self._due.answer(deadline)
        if due is not None:
            yield gauge(table.OUTBOX_MESSAGES, [((), due.messages)])
            yield gauge(table.OUTBOX_AGE, [((), due.oldest_age_s)])


class OutboxFailures(Source):
    """``ask``: what of an outbox was not published, as :class:`OutboxBacklog` asks."""

    def __init__(self, ask: Callable[[], Iterable[Failing]]) -> None:
        self._failing = Query(
            lambda: {one.cause: one for one in ask()}, name="failing messages of the outbox"
        )
        self.queries = (self._failing,)

    def families(self, deadline: float) -> Iterator[Family]:
        failing = self._failing.answer(deadline)
        if failing is not None:
            counts = [((cause,), failing.get(cause)) for cause in CAUSES]
            messages = ((labels, one.messages if one else 0) for labels, one in counts)
            ages_s = ((labels, one.oldest_age_s if one else 0.0) for labels, one in counts)
            yield gauge(table.OUTBOX_FAILING, messages)
            yield gauge(table.OUTBOX_FAILING_AGE, ages_s)


class DatabaseState(Source):
    """``trouble``: what is wrong with it, from memory; ``None``: nothing."""

    def __init__(self, trouble: Callable[[], str | None]) -> None:
        self._trouble = trouble

    def families(self, deadline: float) -> Iterator[Family]:
        yield gauge(table.DATABASE_UP, [((), float(self._trouble() is None))])

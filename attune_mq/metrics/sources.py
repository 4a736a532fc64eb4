"""What is read at a scrape: consumers and publisher of this process, queues, an outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Protocol, get_args

from prometheus_client.core import Metric as Family

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.inspection import QueueCounts, QueueInspector
from attune_mq.broker.management import ManagementClient
from attune_mq.consuming.status import State
from attune_mq.errors import PermissionRefused
from attune_mq.message.labels import LabelValues
from attune_mq.metrics import table
from attune_mq.metrics.asking import Question
from attune_mq.metrics.tallies import Labels, gauge
from attune_mq.service import Service
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology

CAUSES = ("unroutable", "refused", "unconfirmed", "other")
GOOD_FOR_S = 60.0
"""How old a depth may be that a busy broker was too slow to tell anew."""


class Source(Protocol):
    """Something that is read at each scrape."""

    def begin(self) -> None: ...

    def families(self, deadline: float) -> Iterator[Family]: ...

    def close(self) -> None: ...


class Due(Protocol):
    """``attune_mq.transactional.Backlog``: what is due and not confirmed, and for how long."""

    @property
    def messages(self) -> int: ...

    @property
    def oldest_age_s(self) -> float: ...


class Failing(Protocol):
    """``attune_mq.transactional.Failing``: what was published in vain for one of :data:`CAUSES`."""

    @property
    def cause(self) -> str: ...

    @property
    def messages(self) -> int: ...

    @property
    def oldest_age_s(self) -> float: ...


class ProcessState:
    """Consumers and publisher of this process, from memory."""

    def __init__(self, service: Service, labels: LabelValues) -> None:
        self._service = service
        self._labels = labels

    def begin(self) -> None: ...

    def close(self) -> None: ...

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


class QueueDepths:
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
        self._counts = Question(self._count, name="the depth of queues", good_for_s=GOOD_FOR_S)
        self._unacked: Question[dict[Labels, int]] | None = None
        if management is not None:
            self._unacked = Question(
                lambda: self._count_unacked(management),
                name="the number of unacknowledged messages",
                good_for_s=GOOD_FOR_S,
            )

    def close(self) -> None:
        self._inspector.close()

    def begin(self) -> None:
        self._counts.begin()
        if self._unacked is not None:
            self._unacked.begin()

    def families(self, deadline: float) -> Iterator[Family]:
        counts = self._counts.answer(deadline) or {}
        yield gauge(table.QUEUE_READY, ((one, found.messages) for one, found in counts.items()))
        yield gauge(
            table.QUEUE_CONSUMERS, ((one, found.consumers) for one, found in counts.items())
        )
        unacked = self._unacked.answer(deadline) if self._unacked is not None else None
        yield gauge(table.QUEUE_UNACKED, (unacked or {}).items())

    def _count(self) -> dict[Labels, QueueCounts]:
        """Of those that are there and that we may see."""
        counts = {}
        for name, labels in self._labels.items():
            with suppress(PermissionRefused):
                found = self._inspector.counts(name)
                if found is not None:
                    counts[labels] = found
        return counts

    def _count_unacked(self, management: ManagementClient) -> dict[Labels, int]:
        return {
            self._labels[listed["name"]]: listed["messages_unacknowledged"]
            for listed in management.queue_statistics(self._vhost)
            if listed.get("name") in self._labels and "messages_unacknowledged" in listed
        }


class OutboxBacklog:
    """``ask``: what is due in the outbox. May wait, and raise: then it is not told."""

    def __init__(self, ask: Callable[[], Due]) -> None:
        self._question = Question(ask, name="the outbox")

    def close(self) -> None: ...

    def begin(self) -> None:
        self._question.begin()

    def families(self, deadline: float) -> Iterator[Family]:
        due = self._question.answer(deadline)
        if due is not None:
            yield gauge(table.OUTBOX_MESSAGES, [((), due.messages)])
            yield gauge(table.OUTBOX_AGE, [((), due.oldest_age_s)])


class OutboxFailures:
    """``ask``: what of an outbox was published in vain, as :class:`OutboxBacklog` asks."""

    def __init__(self, ask: Callable[[], Iterable[Failing]]) -> None:
        self._question = Question(lambda: tuple(ask()), name="what fails of the outbox")

    def close(self) -> None: ...

    def begin(self) -> None:
        self._question.begin()

    def families(self, deadline: float) -> Iterator[Family]:
        failing = self._question.answer(deadline)
        if failing is not None:
            known = {one.cause: one for one in failing}
            counts = [(cause, known.get(cause)) for cause in CAUSES]
            yield gauge(
                table.OUTBOX_FAILING,
                (((cause,), one.messages if one else 0) for cause, one in counts),
            )
            yield gauge(
                table.OUTBOX_FAILING_AGE,
                (((cause,), one.oldest_age_s if one else 0.0) for cause, one in counts),
            )


class DatabaseState:
    """``trouble``: what is wrong with it, from memory; ``None``: nothing."""

    def __init__(self, trouble: Callable[[], str | None]) -> None:
        self._trouble = trouble

    def begin(self) -> None: ...

    def close(self) -> None: ...

    def families(self, deadline: float) -> Iterator[Family]:
        yield gauge(table.DATABASE_UP, [((), float(self._trouble() is None))])

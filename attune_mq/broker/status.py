"""``status``: what goes on in each queue of a topology, and what is wrong with it.

Depth and consumers are counted over AMQP, by passive declarations, so they are current. What AMQP
cannot tell comes from the HTTP API where there is one: who the consumers are, what they hold, how
fast messages come and go, and which instances of families there are. The API is up to five seconds
late. Nothing is changed; looking at a queue that expires counts as using it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.inspection import QueueInspector
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.observation import ObservedQueue, Source, listed_queues
from attune_mq.errors import AttuneError, LoginRefused, PermissionRefused, VirtualHostRefused
from attune_mq.topology.dead_letter_queues import DeadLetterQueues
from attune_mq.topology.expansion import dead_letter_queue_name, expand, retry_queue_name
from attune_mq.topology.families import instances_among, instantiate
from attune_mq.topology.model import Topology

API_TIMEOUT_S = 10.0
SAMPLES = 3
"""A queue grows when it is longer in each of so many samples in a row …"""
GROWTH_PER_S = 1.0
"""… by so many messages a second at least."""


@dataclass(frozen=True)
class QueueStatus:
    """One queue. ``dead_letters`` are in the dead letter queue that the library made for it,
    ``waiting`` in its retry queues; ``None``: not known, or there is none. ``problems``: what is
    wrong, a sentence each."""

    queue: ObservedQueue
    dead_letters: int | None = None
    waiting: int | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueueReport:
    """``unseen``: what could not be looked at, a sentence each."""

    queues: tuple[QueueStatus, ...]
    source: Source
    unseen: tuple[str, ...] = ()

    @property
    def is_wrong(self) -> bool:
        return any(queue.problems for queue in self.queues)


class Watched(NamedTuple):
    """A queue that is looked at, and what belongs to it. ``tags``: of the consumers that it should
    have. ``holds_dead_letters``: whatever is in it is a dead letter."""

    name: str
    tags: tuple[str, ...] = ()
    dead_letter_queues: tuple[str, ...] = ()
    retry_queues: tuple[str, ...] = ()
    holds_dead_letters: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.dead_letter_queues, *self.retry_queues)


class _Depths(NamedTuple):
    at_s: float
    messages: Mapping[str, int]


class _Sample(NamedTuple):
    """``there``: what was counted, by name. ``refused``: why some could not be. ``growing``: by how
    many messages a second, where that is no passing thing."""

    there: Mapping[str, ObservedQueue]
    refused: Mapping[str, str]
    growing: Mapping[str, float]


class QueueObserver:
    """Looks whenever it is asked to. For one thread; :meth:`close` it.

    Without the HTTP API (``management_url``), or while that does not answer, consumers are counted
    without names, a rate is the change of depth over the last three samples, and instances of
    families are not seen; each report says so.
    """

    def __init__(
        self, topology: Topology, broker: BrokerSettings, management_url: str | None = None
    ) -> None:
        """Raises :class:`~attune_mq.broker.management.InvalidManagementUrl`."""
        self._topology = topology
        self._vhost = virtual_host(broker.urls[0])
        self._inspector = QueueInspector(broker)
        self._client: ManagementClient | None = None
        if management_url is not None:
            self._client = management_client(management_url, broker, timeout_s=API_TIMEOUT_S)
        self._watched = watched(topology, DeadLetterQueues(topology).names)
        self._instances: dict[str, list[Watched]] = {}
        self._depths: deque[_Depths] = deque(maxlen=SAMPLES)

    def close(self) -> None:
        self._inspector.close()

    def poll(self) -> QueueReport:
        """Raises ``BrokerUnavailable``, ``LoginRefused``, ``VirtualHostRefused``. What the HTTP
        API refuses is no error, but named in ``unseen``."""
        listed, why_not = self._ask_api()
        queues = [*self._watched, *self._of_instances(listed or ())]
        sample = self._sample((name for one in queues for name in one.names), listed)
        unseen = [*self._unseen(listed is not None, why_not), *sample.refused.values()]
        return QueueReport(
            tuple(_status(one, sample, listed) for one in queues),
            "amqp" if listed is None else "management",
            tuple(unseen),
        )

    def sample_depths(self) -> None:
        """Depths alone, over AMQP, so that the next report can tell how they change."""
        self._sample((one.name for one in self._watched), None)

    def _ask_api(self) -> tuple[Mapping[str, ObservedQueue] | None, str | None]:
        """What it says, or why it says nothing."""
        if self._client is None:
            return None, None
        try:
            return listed_queues(self._client, self._vhost, consumers=True), None
        except AttuneError as error:
            return None, str(error)

    def _of_instances(self, names: Collection[str]) -> list[Watched]:
        """Those queues of instances that are there; which of them should be is not known."""
        found = []
        for instance in instances_among(self._topology, names):
            if str(instance) not in self._instances:
                part = instantiate(self._topology, instance.family, **instance.parameters)
                self._instances[str(instance)] = watched(part)
            found += [one for one in self._instances[str(instance)] if one.name in names]
        return found

    def _sample(self, names: Iterable[str], listed: Mapping[str, ObservedQueue] | None) -> _Sample:
        counted, refused = count_queues(self._inspector, names)
        depths = {name: one.messages or 0 for name, one in counted.items()}
        self._depths.append(_Depths(time.monotonic(), depths))
        changes_per_s = self._changes_per_s()
        there = {}
        for name, one in counted.items():
            known = _listed(name, listed)
            rate = known.depth_change_per_s
            there[name] = replace(
                known,
                messages=one.messages,
                consumers=one.consumers,
                depth_change_per_s=changes_per_s.get(name) if rate is None else rate,
            )
        growing = {name: rate for name, rate in changes_per_s.items() if self._grows(name, rate)}
        return _Sample(there, refused, growing)

    def _changes_per_s(self) -> dict[str, float]:
        """Over the samples that are kept."""
        first, last = self._depths[0], self._depths[-1]
        elapsed_s = last.at_s - first.at_s
        return {
            name: (depth - first.messages[name]) / elapsed_s
            for name, depth in last.messages.items()
            if name in first.messages and elapsed_s > 0
        }

    def _grows(self, name: str, change_per_s: float) -> bool:
        depths = [one.messages.get(name, 0) for one in self._depths]
        rises = all(before < after for before, after in pairwise(depths))
        return rises and change_per_s >= GROWTH_PER_S and len(depths) == SAMPLES

    def _unseen(self, by_api: bool, why_not: str | None) -> Iterator[str]:
        private = [k for k, q in self._topology.queues.items() if q.belongs_to_a_connection]
        if private:
            yield f"queues that belong to a connection are not looked at: {', '.join(private)}"
        if by_api:
            return
        if why_not is not None:
            yield f"the HTTP API failed: {why_not}"
        families = ", ".join(self._topology.families)
        yield (
            "over AMQP alone consumers are counted and not named, and rates are changes of depth"
            + (f"; queues of instances of {families} are not seen" if families else "")
        )


def count_queues(
    inspector: QueueInspector, names: Iterable[str]
) -> tuple[dict[str, ObservedQueue], dict[str, str]]:
    """Those of the queues that are there, and why the broker does not let us look at some. Raises
    ``BrokerUnavailable``, ``LoginRefused``, ``VirtualHostRefused``."""
    there: dict[str, ObservedQueue] = {}
    refused: dict[str, str] = {}
    for name in dict.fromkeys(names):
        try:
            if counts := inspector.counts(name):
                there[name] = ObservedQueue(name, counts.messages, counts.consumers)
        except (LoginRefused, VirtualHostRefused):
            raise
        except PermissionRefused as error:
            refused[name] = str(error)
    return there, refused


def watched(topology: Topology, holding_dead_letters: Collection[str] = ()) -> list[Watched]:
    """The queues of a file, without those that belong to a connection, in its order."""
    names = {queue.name for queue in topology.queues.values()}
    added = {queue.name for queue in expand(topology).queues.values()} - names
    found = []
    for key, queue in topology.queues.items():
        if queue.belongs_to_a_connection:
            continue
        delays_ms = queue.retry.backoff_ms if queue.retry else ()
        retries = dict.fromkeys(retry_queue_name(queue.name, delay_ms) for delay_ms in delays_ms)
        one = Watched(
            queue.name,
            tuple(tag for tag, spec in topology.consumers.items() if spec.queue == key),
            tuple(name for name in (dead_letter_queue_name(queue.name),) if name in added),
            tuple(name for name in retries if name in added),
            queue.name in holding_dead_letters,
        )
        found.append(one)
    return found


def _listed(name: str, listed: Mapping[str, ObservedQueue] | None) -> ObservedQueue:
    """By the HTTP API; one that it does not list yet has no consumer there."""
    if listed is None:
        return ObservedQueue(name)
    return listed.get(name) or ObservedQueue(name, consumer_tags=())


def _status(
    one: Watched, sample: _Sample, listed: Mapping[str, ObservedQueue] | None
) -> QueueStatus:
    queue = sample.there.get(one.name)
    if queue is None:
        queue = replace(_listed(one.name, listed), messages=None, consumers=None)
    status = QueueStatus(
        queue, _total(one.dead_letter_queues, sample), _total(one.retry_queues, sample)
    )
    return replace(status, problems=tuple(_problems(status, one, sample)))


def _total(queues: Collection[str], sample: _Sample) -> int | None:
    counts = [sample.there[name].messages or 0 for name in queues if name in sample.there]
    return sum(counts) if counts else None


def _problems(status: QueueStatus, one: Watched, sample: _Sample) -> Iterator[str]:
    for name in one.names:
        if name not in sample.there and name not in sample.refused:
            yield "is missing" if name == one.name else f"{name} is missing"
    queue = status.queue
    if queue.consumers is not None and queue.consumers < len(one.tags):
        yield _lack_of_consumers(one.tags, queue)
    dead = status.dead_letters or 0
    if one.holds_dead_letters and not one.tags:
        dead += queue.messages or 0
    if dead:
        yield f"{dead} dead letter{'s' * (dead != 1)}: attune-mq dlq show {one.name}"
    if one.name in sample.growing:
        yield f"grows by {sample.growing[one.name]:.1f} messages a second"


def _lack_of_consumers(wanted: Sequence[str], queue: ObservedQueue) -> str:
    """By name where none is there, or where the HTTP API, which is a little late, has seen all
    that are."""
    count = f"{queue.consumers} of {len(wanted)} consumers" if queue.consumers else "no consumer"
    if queue.consumers and len(queue.consumer_tags or ()) != queue.consumers:
        return f"has {count}: not all of {', '.join(wanted)}"
    absent = [tag for tag in wanted if not queue.has_consumer(tag)]
    return f"has {count}; missing: {', '.join(absent)}"

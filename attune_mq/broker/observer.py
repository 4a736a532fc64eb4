"""Looking at the queues of a topology, again and again.

Depth and consumers are counted over AMQP, by passive declarations, so they are fresh. What AMQP
cannot tell comes from the HTTP API where there is one: who the consumers are, what they hold, how
fast messages come and go, and which instances of families there are. The API is up to five seconds
late. Nothing is changed; looking at a queue that expires counts as using it.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.inspection import QueueCounts, QueueInspector
from attune_mq.broker.instances import instances_among
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.queue_status import (
    Picture,
    Seen,
    Watched,
    rate_of,
    status_of,
    watched,
)
from attune_mq.errors import AttuneError, LoginRefused, PermissionRefused, VirtualHostRefused
from attune_mq.topology.dead_letter_queues import DeadLetterQueues
from attune_mq.topology.families import instantiate
from attune_mq.topology.model import Topology

API_TIMEOUT_S = 10.0
LOOKS = 3
"""A queue grows when it is longer at each of so many looks in a row …"""
GROWTH_PER_S = 1.0
"""… by so many messages a second at least."""


class _Listed(NamedTuple):
    """By the HTTP API."""

    queues: Mapping[str, Mapping[str, Any]]
    tags: Mapping[str, list[str]]


class _Depths(NamedTuple):
    at_s: float
    messages: Mapping[str, int]


class QueueObserver:
    """Looks whenever it is asked to. For one thread; :meth:`close` it.

    Without the HTTP API (``management_url``), or while that does not answer, consumers are counted
    without names, a rate is the change of depth over the last three looks, and instances of
    families are not seen; each picture says so.
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
        self._depths: deque[_Depths] = deque(maxlen=LOOKS)

    def close(self) -> None:
        self._inspector.close()

    def look(self) -> Picture:
        """Raises ``BrokerUnavailable``, ``LoginRefused``, ``VirtualHostRefused``. What the HTTP
        API refuses is no error: then it is told as unseen."""
        listed, why_not = self._ask_api()
        queues = [*self._watched, *self._of_instances(listed.queues if listed else ())]
        counts, refused = self._count(name for one in queues for name in one.names)
        changes_per_s = self._changes_per_s()
        growing = {name: rate for name, rate in changes_per_s.items() if self._grows(name, rate)}
        if listed is None:
            seen = Seen(counts, refused, changes_per_s, growing)
        else:
            rates = {name: rate_of(one, "messages_details") for name, one in listed.queues.items()}
            changes_per_s |= {name: rate for name, rate in rates.items() if rate is not None}
            seen = Seen(counts, refused, changes_per_s, growing, listed.queues, listed.tags)
        unseen = [*self._unseen(listed, why_not), *refused.values()]
        source = "amqp" if listed is None else "management"
        return Picture(tuple(status_of(one, seen) for one in queues), source, tuple(unseen))

    def glance(self) -> None:
        """Depths alone, over AMQP, so that the next look can tell how they change."""
        self._count(one.name for one in self._watched)

    def _ask_api(self) -> tuple[_Listed | None, str | None]:
        """What it says, or why it says nothing."""
        if self._client is None:
            return None, None
        try:
            queues = self._client.queue_statistics(self._vhost)
            consumers = self._client.consumers(self._vhost)
        except AttuneError as error:
            return None, str(error)
        tags: defaultdict[str, list[str]] = defaultdict(list)
        for one in consumers:
            tags[one["queue"]["name"]].append(one["consumer_tag"])
        return _Listed({one["name"]: one for one in queues}, tags), None

    def _of_instances(self, names: Iterable[str]) -> list[Watched]:
        """Those queues of instances that are there; which of them should be is not known."""
        there = dict.fromkeys(names)
        found = []
        for instance in instances_among(self._topology, there):
            if str(instance) not in self._instances:
                part = instantiate(self._topology, instance.family, **instance.parameters)
                self._instances[str(instance)] = watched(part)
            found += [one for one in self._instances[str(instance)] if one.name in there]
        return found

    def _count(self, names: Iterable[str]) -> tuple[dict[str, QueueCounts], dict[str, str]]:
        """What is there, and why the broker does not let us look at some."""
        counts: dict[str, QueueCounts] = {}
        refused: dict[str, str] = {}
        for name in dict.fromkeys(names):
            try:
                counted = self._inspector.counts(name)
            except (LoginRefused, VirtualHostRefused):
                raise
            except PermissionRefused as error:
                refused[name] = str(error)
            else:
                if counted is not None:
                    counts[name] = counted
        depths = {name: one.messages for name, one in counts.items()}
        self._depths.append(_Depths(time.monotonic(), depths))
        return counts, refused

    def _changes_per_s(self) -> dict[str, float]:
        """Over the looks that are remembered."""
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
        return rises and change_per_s >= GROWTH_PER_S and len(depths) == LOOKS

    def _unseen(self, listed: _Listed | None, why_not: str | None) -> Iterable[str]:
        private = [k for k, q in self._topology.queues.items() if q.belongs_to_a_connection]
        if private:
            yield f"queues that belong to a connection are not looked at: {', '.join(private)}"
        if listed is not None:
            return
        if why_not is not None:
            yield f"the HTTP API is no help: {why_not}"
        families = ", ".join(self._topology.families)
        yield (
            "over AMQP alone consumers are counted and not named, and rates are changes of depth"
            + (f"; queues of instances of {families} are not seen" if families else "")
        )

"""What goes on in a queue, and what is wrong with it. Pure: somebody else has looked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from attune_mq.broker.inspection import QueueCounts
from attune_mq.topology.expansion import dead_letter_queue_name, expand, retry_queue_name
from attune_mq.topology.model import Topology


@dataclass(frozen=True)
class QueueStatus:
    """One queue. ``None``: not known, or there is none.

    ``messages`` are ready; those that consumers hold are ``unacknowledged``. ``tags`` are those of
    its consumers. ``dead_letters`` are in the dead letter queue that the library made for it,
    ``waiting`` in its retry queues. ``change_per_s`` is that of its depth. ``problems``: what is
    wrong, a sentence each.
    """

    queue: str
    messages: int | None
    consumers: int | None
    unacknowledged: int | None = None
    tags: tuple[str, ...] | None = None
    dead_letters: int | None = None
    waiting: int | None = None
    published_per_s: float | None = None
    delivered_per_s: float | None = None
    change_per_s: float | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """``source`` is ``amqp`` or ``management``. ``unseen``: what could not be looked at, a sentence
    each."""

    queues: tuple[QueueStatus, ...]
    source: str
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


class Seen(NamedTuple):
    """What was found, by the names of queues.

    ``counts``: of every queue that is there. ``refused``: those that the broker does not let us
    look at. ``changes_per_s``: of the depth. ``growing``: by how many messages a second, where that
    is no passing thing. ``listed``, ``tags``: what the HTTP API says of a queue, and the tags of
    its consumers.
    """

    counts: Mapping[str, QueueCounts]
    refused: Collection[str]
    changes_per_s: Mapping[str, float]
    growing: Mapping[str, float]
    listed: Mapping[str, Mapping[str, Any]] | None = None
    tags: Mapping[str, Sequence[str]] | None = None


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


def status_of(one: Watched, seen: Seen) -> QueueStatus:
    counts = seen.counts.get(one.name)
    listed = (seen.listed or {}).get(one.name, {})
    status = QueueStatus(
        queue=one.name,
        messages=counts.messages if counts else None,
        consumers=counts.consumers if counts else None,
        unacknowledged=listed.get("messages_unacknowledged"),
        tags=None if seen.tags is None else tuple(sorted(seen.tags.get(one.name, ()))),
        dead_letters=_total(one.dead_letter_queues, seen),
        waiting=_total(one.retry_queues, seen),
        published_per_s=rate_of(listed.get("message_stats"), "publish_details"),
        delivered_per_s=rate_of(listed.get("message_stats"), "deliver_get_details"),
        change_per_s=seen.changes_per_s.get(one.name),
    )
    return replace(status, problems=tuple(_problems(status, one, seen)))


def rate_of(counters: object, name: str) -> float | None:
    """Messages a second by the HTTP API, which leaves out what has never happened."""
    rate = counters.get(name, {}).get("rate") if isinstance(counters, Mapping) else None
    return float(rate) if isinstance(rate, int | float) else None


def _total(queues: Collection[str], seen: Seen) -> int | None:
    counts = [seen.counts[name].messages for name in queues if name in seen.counts]
    return sum(counts) if counts else None


def _problems(status: QueueStatus, one: Watched, seen: Seen) -> Iterator[str]:
    for name in one.names:
        if name not in seen.counts and name not in seen.refused:
            yield "is missing" if name == one.name else f"{name} is missing"
    if status.consumers is not None and status.consumers < len(one.tags):
        yield _lack_of_consumers(one.tags, status)
    dead = status.dead_letters or 0
    if one.holds_dead_letters and not one.tags:
        dead += status.messages or 0
    if dead:
        yield f"{dead} dead letter{'s' * (dead != 1)}: attune-mq dlq show {one.name}"
    if one.name in seen.growing:
        yield f"grows by {seen.growing[one.name]:.1f} messages a second"


def _lack_of_consumers(wanted: Sequence[str], status: QueueStatus) -> str:
    """By name where none is there, or where the HTTP API, which is a little late, has seen all
    that are."""
    count = f"{status.consumers} of {len(wanted)} consumers" if status.consumers else "no consumer"
    if status.consumers and (status.tags is None or len(status.tags) != status.consumers):
        return f"has {count}: not all of {', '.join(wanted)}"
    tags = status.tags or ()
    absent = [tag for tag in wanted if not any(_is(tag, other) for other in tags)]
    return f"has {count}; missing: {', '.join(absent)}"


def _is(tag: str, registered: str) -> bool:
    return registered == tag or registered.startswith(f"{tag}@")

"""Labels whose values are few, whatever is sent to us and however many workers come and go.

A queue or a tag of a family's instance is labelled with the family's own name,
``worker.{worker_id}.executions``: which worker it is stands in the label ``instance``, which
Prometheus adds by itself. A queue that the broker names is labelled with its key in the file. What
the topology does not know is ``other``. Routing keys, message ids and the instance part of a tag
are never labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from attune_mq.topology.contracts import ConsumerSpec, MessageContract
from attune_mq.topology.expansion import expand
from attune_mq.topology.families import name_pattern
from attune_mq.topology.model import Block, Topology
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Queue

OTHER = "other"
"""What the topology does not know."""
UNREAD = "unread"
"""The type of a message whose body was not read, or cannot be."""
DEFAULT = "(default)"
"""The default exchange, whose name is empty: to Prometheus that would be no label at all."""


class _Known(NamedTuple):
    """A name of the file, and a pattern of what it is called on the broker."""

    pattern: re.Pattern[str]
    label: str


class LabelValues:
    """``topology``: the whole file with its families, as :func:`load_topology` gives it."""

    def __init__(self, topology: Topology) -> None:
        expanded = expand(topology)
        blocks = [block for _, block in expanded.blocks()]
        exchanges = {exchange.name for exchange in expanded.exchanges.values()}
        self._exchanges = exchanges | set(BUILT_IN_EXCHANGES)
        self._types = {name for block in blocks for name in _types(block.messages, block.consumers)}
        self._queues = _by_length(
            _known(queue.name, block) for block in blocks for queue in block.queues.values()
        )
        self._tags = _by_length(_known(tag, block) for block in blocks for tag in block.consumers)
        self._queue_of = {
            tag: _queue_label(block.queues, spec.queue)
            for block in blocks
            for tag, spec in block.consumers.items()
        }

    def consumer(self, registered: str) -> tuple[str, str]:
        """Queue and tag of a consumer, by the tag that the broker sees (``tag@instance``)."""
        tag = self.tag(registered)
        return self._queue_of.get(tag, OTHER), tag

    def tag(self, registered: str) -> str:
        return _label(self._tags, registered.partition("@")[0])

    def queue(self, name: str) -> str:
        return _label(self._queues, name)

    def exchange(self, name: str) -> str:
        return (name or DEFAULT) if name in self._exchanges or not name else OTHER

    def message_type(self, name: str | None) -> str:
        if name is None:
            return UNREAD
        return name if name in self._types else OTHER


def _types(
    messages: Mapping[str, MessageContract], consumers: Mapping[str, ConsumerSpec]
) -> Iterator[str]:
    yield from messages
    for spec in consumers.values():
        yield from (name for name in spec.handles if name != "*")


def _known(name: str, block: Block) -> _Known:
    return _Known(re.compile(name_pattern(name, block)), name)


def _by_length(known: Iterable[_Known]) -> list[_Known]:
    """The longest first: ``worker-{worker_id}`` would take what is ``worker-{worker_id}-packs``."""
    return sorted(known, key=lambda one: len(one.label), reverse=True)


def _label(known: list[_Known], name: str) -> str:
    return next((one.label for one in known if one.pattern.fullmatch(name)), OTHER)


def _queue_label(queues: Mapping[str, Queue], key: str) -> str:
    queue = queues.get(key)
    return (queue.name or key) if queue else OTHER

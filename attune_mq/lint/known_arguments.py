"""The arguments that RabbitMQ knows, what they take, for which type of queue, in which version.

Sources: https://www.rabbitmq.com/docs/queues#optional-arguments, and the tables of
``rabbit_classic_queue``, ``rabbit_quorum_queue`` and ``rabbit_stream_queue`` in RabbitMQ 3.10.8,
4.0.5 and 4.3.6, read off with their own ``capabilities()``. A test asks a broker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from attune_mq.lint.broker_versions import Version, Versions
from attune_mq.topology.durations import MAX_DURATION_MS


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    least: int = 0
    most: int | None = None
    type_name = "a whole number"

    def has_type(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def takes(self, value: Any) -> bool:
        return bool(value >= self.least and (self.most is None or value <= self.most))

    def __str__(self) -> str:
        upper = "" if self.most is None else f" and at most {self.most}"
        return f"a whole number, at least {self.least}{upper}"


@dataclass(frozen=True)
class Text:
    """A text; with ``choices`` or a ``pattern`` only such as fit."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    example: str = ""
    type_name = "a text"

    def has_type(self, value: Any) -> bool:
        return isinstance(value, str)

    def takes(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return not self.pattern or re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return f"a text such as {self.example}" if self.example else "a text"


@dataclass(frozen=True)
class YesOrNo:
    type_name = "true or false"

    def has_type(self, value: Any) -> bool:
        return isinstance(value, bool)

    def takes(self, value: Any) -> bool:
        return True

    def __str__(self) -> str:
        return self.type_name


Kind = Whole | Text | YesOrNo

CLASSIC, QUORUM, STREAM = "classic", "quorum", "stream"
QUEUES = frozenset({CLASSIC, QUORUM})
REPLICATED = frozenset({QUORUM, STREAM})
ALL = QUEUES | REPLICATED


class KnownArgument(NamedTuple):
    kind: Kind
    queue_types: frozenset[str]
    since: Version | None = None
    """The version that brought it; those before ignore it. ``None``: older than 3.10."""


_MILLISECONDS = Whole(most=MAX_DURATION_MS)
_LEADER_LOCATORS = ("client-local", "balanced", "random", "least-leaders")

QUEUE_ARGUMENTS: Mapping[str, KnownArgument] = {
    "x-queue-type": KnownArgument(Text(choices=(CLASSIC, QUORUM, STREAM)), ALL),
    "x-message-ttl": KnownArgument(_MILLISECONDS, QUEUES),
    "x-expires": KnownArgument(Whole(least=1, most=MAX_DURATION_MS), QUEUES),
    "x-max-length": KnownArgument(Whole(), QUEUES),
    "x-max-length-bytes": KnownArgument(Whole(), ALL),
    "x-overflow": KnownArgument(
        Text(choices=("drop-head", "reject-publish", "reject-publish-dlx")), QUEUES
    ),
    "x-dead-letter-exchange": KnownArgument(Text(), QUEUES),
    "x-dead-letter-routing-key": KnownArgument(Text(), QUEUES),
    "x-dead-letter-strategy": KnownArgument(
        Text(choices=("at-most-once", "at-least-once")), frozenset({QUORUM})
    ),
    "x-single-active-consumer": KnownArgument(YesOrNo(), QUEUES),
    "x-max-priority": KnownArgument(Whole(most=255), frozenset({CLASSIC})),
    "x-queue-mode": KnownArgument(Text(choices=("default", "lazy")), frozenset({CLASSIC})),
    "x-queue-version": KnownArgument(Whole(least=1, most=2), frozenset({CLASSIC})),
    "x-queue-master-locator": KnownArgument(
        Text(choices=("client-local", "min-masters", "random")), frozenset({CLASSIC})
    ),
    "x-queue-leader-locator": KnownArgument(Text(choices=_LEADER_LOCATORS), ALL),
    "x-delivery-limit": KnownArgument(Whole(least=-1), frozenset({QUORUM})),
    "x-quorum-initial-group-size": KnownArgument(Whole(least=1), frozenset({QUORUM})),
    "x-max-in-memory-length": KnownArgument(Whole(), frozenset({QUORUM})),
    "x-max-in-memory-bytes": KnownArgument(Whole(), frozenset({QUORUM})),
    "x-consumer-timeout": KnownArgument(Whole(), QUEUES, since=(3, 12)),
    "x-consumer-disconnected-timeout": KnownArgument(Whole(), frozenset({QUORUM}), since=(4, 3)),
    "x-delayed-retry-type": KnownArgument(Text(), frozenset({QUORUM}), since=(4, 3)),
    "x-delayed-retry-min": KnownArgument(Whole(), frozenset({QUORUM}), since=(4, 3)),
    "x-delayed-retry-max": KnownArgument(Whole(), frozenset({QUORUM}), since=(4, 3)),
    "x-max-age": KnownArgument(
        Text(pattern="[1-9][0-9]*[YMDhms]", example="7D"), frozenset({STREAM})
    ),
    "x-stream-max-segment-size-bytes": KnownArgument(Whole(), frozenset({STREAM})),
    "x-stream-filter-size-bytes": KnownArgument(
        Whole(least=16, most=255), frozenset({STREAM}), since=(3, 13)
    ),
    "x-initial-cluster-size": KnownArgument(Whole(least=1), frozenset({STREAM})),
}
"""Of any version, with the queue types that take it in some version."""

PLUGIN_QUEUE_ARGUMENTS = frozenset({"x-message-deduplication"})
"""RabbitMQ itself ignores it; a plugin reads it."""

EXCHANGE_ARGUMENTS: Mapping[str, Kind] = {"alternate-exchange": Text()}
"""Of the four types that RabbitMQ brings. Those of plugins (``x-…``) have their own."""

HEADERS_MATCH = Text(choices=("all", "any", "all-with-x", "any-with-x"))
"""What ``x-match`` takes, of a binding to a headers exchange."""


class Change(NamedTuple):
    """What some versions do with an argument that others take."""

    argument: str
    versions: Versions
    effect: Literal["refuses", "ignores"]
    why: str
    queue_types: frozenset[str] = ALL
    value: Any = None
    """Only this value is concerned; ``None``: any."""

    def concerns(self, queue_type: str, value: Any) -> bool:
        return queue_type in self.queue_types and self.value in (None, value)


CHANGES = (
    Change(
        "x-queue-version",
        Versions(since=(4, 3)),
        "refuses",
        "version 1 of the classic queue's store is gone",
        value=1,
    ),
    Change(
        "x-queue-version",
        Versions(since=(4, 0), before=(4, 3)),
        "ignores",
        "every classic queue is stored as version 2",
        value=1,
    ),
    Change(
        "x-queue-master-locator",
        Versions(since=(4, 3)),
        "refuses",
        "the feature is switched off; the whole connection is closed (541)",
    ),
    Change(
        "x-queue-leader-locator",
        Versions(before=(4, 0)),
        "refuses",
        "it was for quorum queues and streams only",
        queue_types=frozenset({CLASSIC}),
    ),
    Change(
        "x-queue-mode",
        Versions(since=(3, 12)),
        "ignores",
        "classic queues keep their messages on disk anyhow",
    ),
    Change(
        "x-max-in-memory-length",
        Versions(since=(3, 10)),
        "ignores",
        "quorum queues keep their messages on disk anyhow",
    ),
    Change(
        "x-max-in-memory-bytes",
        Versions(since=(3, 10)),
        "ignores",
        "quorum queues keep their messages on disk anyhow",
    ),
    Change(
        "x-consumer-timeout",
        Versions(since=(4, 3)),
        "refuses",
        "classic queues have no consumer timeout any more",
        queue_types=frozenset({CLASSIC}),
    ),
)

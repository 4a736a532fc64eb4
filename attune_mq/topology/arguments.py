"""The arguments of queues and exchanges that RabbitMQ knows: a row each, for all that read them.

A new argument is a new row here: with it a file is checked, an object declared, imported, written
down, compared with what the broker has, and migrated.

Sources: https://www.rabbitmq.com/docs/queues#optional-arguments, and the tables of
``rabbit_classic_queue``, ``rabbit_quorum_queue`` and ``rabbit_stream_queue`` in RabbitMQ 3.10.8,
4.0.5 and 4.3.6, read off with their own ``capabilities()``. A test asks a broker.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from attune_mq.topology.durations import MAX_DURATION_MS
from attune_mq.topology.fields import MAX_NAME_BYTES, FrozenDict
from attune_mq.topology.objects import (
    BUILT_IN_EXCHANGES,
    DeadLetterStrategy,
    Overflow,
    QueueType,
)

QUEUE_TYPE = "x-queue-type"
MESSAGE_TTL = "x-message-ttl"
OVERFLOW = "x-overflow"
DELIVERY_LIMIT = "x-delivery-limit"
DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_ROUTING_KEY = "x-dead-letter-routing-key"
DEAD_LETTER_STRATEGY = "x-dead-letter-strategy"
ALTERNATE_EXCHANGE = "alternate-exchange"

Version = tuple[int, int]
"""Major and minor: what a queue does has never changed with a patch release."""
_NEWEST: Version = (999, 0)


def release(version: str) -> Version:
    """Of a broker's version such as ``4.0.5``. What is none is taken for the newest."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2])) if numbers else _NEWEST


class Versions(NamedTuple):
    """From ``since`` on (included), up to ``before`` (not included)."""

    since: Version | None = None
    before: Version | None = None

    def may_be(self, version: Version | None) -> bool:
        """Whether the broker may be one of these; it may while its version is not stated."""
        if version is None:
            return True
        after = self.since is None or version >= self.since
        return after and (self.before is None or version < self.before)

    def __str__(self) -> str:
        since = self.since and f"{self.since[0]}.{self.since[1]}"
        before = self.before and f"{self.before[0]}.{self.before[1]}"
        if since and before:
            return f"RabbitMQ from {since} to before {before}"
        if since:
            return f"RabbitMQ {since} and later"
        return f"RabbitMQ before {before}" if before else "every RabbitMQ"


DEFAULT_DELIVERY_LIMIT = 20
LIMITS_DELIVERIES = Versions(since=(4, 0))
"""Quorum queues that say nothing have the default delivery limit, and -1 is no limit. Before,
they had none, and -1 dropped a message at its first return."""


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    least: int = 0
    most: int | None = None
    type: ClassVar = int
    type_name: ClassVar = "a whole number"

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
    type: ClassVar = str
    type_name: ClassVar = "a text"

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
    type: ClassVar = bool
    type_name: ClassVar = "true or false"

    def takes(self, _: Any) -> bool:
        return True

    def __str__(self) -> str:
        return self.type_name


Kind = Whole | Text | YesOrNo
"""What values an argument takes: those that are of its ``type``, and that it ``takes``."""

CLASSIC, QUORUM, STREAM = QUEUE_TYPES = get_args(QueueType)


class Change(NamedTuple):
    """What some versions do with an argument that others take; to ``value``, unless it is
    ``None``, and for queues of ``queue_type`` alone, likewise."""

    versions: Versions
    effect: Literal["refuses", "ignores"]
    why: str
    queue_type: str | None = None
    value: Any = None

    def concerns(self, queue_type: str, value: Any) -> bool:
        return self.queue_type in (None, queue_type) and self.value in (None, value)


@dataclass(frozen=True)
class QueueArgument:
    """``classic``, ``quorum``, ``stream``: when the broker compares it with that of a queue of this
    type which is declared again, first, second and so on; 0 is never. ``None``: a queue of this
    type does not take it, in any version.

    ``since``: the version that brought it, those before ignore it; ``None``: older than 3.10.
    ``compared_since``: the version from which on a type compares it, where that is a later one.
    """

    name: str
    kind: Kind
    classic: int | None = None
    quorum: int | None = None
    stream: int | None = None
    field: str | None = None
    """The field of :class:`~attune_mq.topology.objects.Queue` that stands for it."""
    since: Version | None = None
    compared_since: Mapping[str, Version] = FrozenDict()
    changes: tuple[Change, ...] = ()

    @property
    def key(self) -> str | None:
        """The key of the file that stands for it."""
        return self.field and self.field.removesuffix("_ms")

    @property
    def queue_types(self) -> list[str]:
        return [each for each in QUEUE_TYPES if getattr(self, each) is not None]

    def place(self, queue_type: str, version: Version) -> int:
        """When a broker of that version compares it; 0: never."""
        since = self.compared_since.get(queue_type, self.since)
        return 0 if since and version < since else getattr(self, queue_type) or 0


_ON_DISK = Change(
    Versions(since=(3, 10)), "ignores", "quorum queues keep their messages on disk anyhow"
)
_MILLISECONDS = Whole(most=MAX_DURATION_MS)

QUEUE_ARGUMENTS: dict[str, QueueArgument] = {
    row.name: row
    for row in (
        QueueArgument(QUEUE_TYPE, Text(QUEUE_TYPES), 12, 11, 2, field="type"),
        QueueArgument(MESSAGE_TTL, _MILLISECONDS, 2, 14, field="ttl_ms"),
        QueueArgument("x-expires", Whole(least=1, most=MAX_DURATION_MS), 1, 4, field="expires_ms"),
        QueueArgument("x-max-length", Whole(), 5, 5, field="max_length"),
        QueueArgument("x-max-length-bytes", Whole(), 6, 6, 1, field="max_length_bytes"),
        QueueArgument(OVERFLOW, Text(get_args(Overflow)), 8, 9, field="overflow"),
        QueueArgument(DEAD_LETTER_EXCHANGE, Text(), 3, 1, field="dead_letter"),
        QueueArgument(DEAD_LETTER_ROUTING_KEY, Text(), 4, 2, field="dead_letter"),
        QueueArgument(
            DEAD_LETTER_STRATEGY, Text(get_args(DeadLetterStrategy)), quorum=3, field="dead_letter"
        ),
        QueueArgument(DELIVERY_LIMIT, Whole(least=-1), quorum=13, field="delivery_limit"),
        QueueArgument("x-max-priority", Whole(most=255), classic=7, field="max_priority"),
        QueueArgument(
            "x-single-active-consumer", YesOrNo(), 11, 10, field="single_active_consumer"
        ),
        QueueArgument(
            "x-queue-mode",
            Text(("default", "lazy")),
            classic=9,
            changes=(
                Change(
                    Versions(since=(3, 12)),
                    "ignores",
                    "classic queues keep their messages on disk anyhow",
                ),
            ),
        ),
        QueueArgument(
            "x-queue-version",
            Whole(least=1, most=2),
            classic=10,
            changes=(
                Change(
                    Versions(since=(4, 3)),
                    "refuses",
                    "version 1 of the classic queue's store is gone",
                    value=1,
                ),
                Change(
                    Versions(since=(4, 0), before=(4, 3)),
                    "ignores",
                    "every classic queue is stored as version 2",
                    value=1,
                ),
            ),
        ),
        QueueArgument(
            "x-queue-master-locator",
            Text(("client-local", "min-masters", "random")),
            classic=13,
            changes=(
                Change(
                    Versions(since=(4, 3)),
                    "refuses",
                    "the feature is switched off; the whole connection is closed (541)",
                ),
            ),
        ),
        QueueArgument(
            "x-queue-leader-locator",
            Text(("client-local", "balanced", "random", "least-leaders")),
            classic=14,
            quorum=15,
            stream=7,
            compared_since={CLASSIC: (4, 0)},
            changes=(
                Change(
                    Versions(before=(4, 0)),
                    "refuses",
                    "it was for quorum queues and streams only",
                    CLASSIC,
                ),
            ),
        ),
        QueueArgument("x-quorum-initial-group-size", Whole(least=1), quorum=12),
        QueueArgument("x-max-in-memory-length", Whole(), quorum=7, changes=(_ON_DISK,)),
        QueueArgument("x-max-in-memory-bytes", Whole(), quorum=8, changes=(_ON_DISK,)),
        QueueArgument(
            "x-consumer-timeout",
            Whole(),
            classic=0,
            quorum=17,
            since=(3, 12),
            compared_since={QUORUM: (4, 3)},
            changes=(
                Change(
                    Versions(since=(4, 3)),
                    "refuses",
                    "classic queues have no consumer timeout any more",
                    CLASSIC,
                ),
            ),
        ),
        QueueArgument("x-consumer-disconnected-timeout", Whole(), quorum=16, since=(4, 3)),
        QueueArgument("x-delayed-retry-type", Text(), quorum=18, since=(4, 3)),
        QueueArgument("x-delayed-retry-min", Whole(), quorum=19, since=(4, 3)),
        QueueArgument("x-delayed-retry-max", Whole(), quorum=20, since=(4, 3)),
        QueueArgument("x-max-age", Text(pattern="[1-9][0-9]*[YMDhms]", example="7D"), stream=3),
        QueueArgument("x-stream-max-segment-size-bytes", Whole(), stream=4),
        QueueArgument(
            "x-stream-filter-size-bytes",
            Whole(least=16, most=255),
            stream=5,
            since=(3, 13),
            compared_since={STREAM: (4, 3)},
        ),
        QueueArgument("x-initial-cluster-size", Whole(least=1), stream=6),
    )
}
"""Of any version, by name."""

PLUGIN_QUEUE_ARGUMENTS = frozenset({"x-message-deduplication"})
"""RabbitMQ itself ignores it; a plugin reads it."""

EXCHANGE_ARGUMENTS: Mapping[str, Kind] = {ALTERNATE_EXCHANGE: Text()}
"""Of the four types that RabbitMQ brings. Those of plugins (``x-…``) have their own."""


def compared_arguments(queue_type: str, version: Version) -> list[str]:
    """The arguments that the broker compares when a queue of this type is declared again, in its
    order: it names the first that differs. A type that is not known is taken for ``classic``."""
    known = queue_type if queue_type in QUEUE_TYPES else CLASSIC
    places = {row.name: row.place(known, version) for row in QUEUE_ARGUMENTS.values()}
    return sorted(filter(places.get, places), key=places.__getitem__)


def key_of(argument: str) -> str | None:
    """The key of the file, of a queue or an exchange, that stands for an argument."""
    if argument == ALTERNATE_EXCHANGE:
        return "alternate_exchange"
    row = QUEUE_ARGUMENTS.get(argument)
    return row.key if row else None


def has_key(argument: str, arguments: Mapping[str, Any], exchanges: Collection[str]) -> bool:
    """Whether a key of the file can stand for this one of a queue's ``arguments``, and not only
    ``arguments`` itself, which takes whatever brokers and their definitions have.

    ``exchanges`` are the broker's names of those that the file declares. A dead letter exchange
    that is not among them cannot be referred to, and neither can what goes with it.
    """
    value, row = arguments[argument], QUEUE_ARGUMENTS.get(argument)
    if row is None or row.field is None or type(value) is not row.kind.type:
        return False
    if argument == DEAD_LETTER_EXCHANGE:
        return value == "" or value in BUILT_IN_EXCHANGES or value in exchanges
    if row.field == "dead_letter" and not (
        DEAD_LETTER_EXCHANGE in arguments and has_key(DEAD_LETTER_EXCHANGE, arguments, exchanges)
    ):
        return False
    fits = not isinstance(value, str) or len(value.encode("utf-8", "replace")) <= MAX_NAME_BYTES
    return fits and row.kind.takes(value)

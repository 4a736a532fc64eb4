"""Messages and consumers: who says what, and who listens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field, PlainValidator, StrictBool, StrictInt, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from attune_mq.topology.durations import DurationMs
from attune_mq.topology.fields import FrozenDict, FrozenMap, Name, ShortString, TopologyModel
from attune_mq.topology.objects import Binding, Queue

DEFAULT_PREFETCH = 10
MAX_PREFETCH = 65_535
"""AMQP sends the count as an unsigned short."""


class MessageContract(TopologyModel):
    """Who publishes a message type, to which exchange and with which key."""

    exchange: StrictStr
    routing_key: ShortString = ""
    publishers: tuple[StrictStr, ...] = ()
    """Names of services."""
    mandatory: StrictBool = True
    """Whether a message that no queue takes is an error to its publisher. ``false`` is for
    broadcasts that may have no subscriber: without a queue such a message is gone."""


def _prefetch(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PREFETCH:
        return value
    if isinstance(value, str):
        term, _, count = value.partition("+")
        if term.strip() == "concurrency" and count.strip().isdecimal():
            return f"concurrency + {int(count)}"
    expected = f"a whole number from 0 to {MAX_PREFETCH}, or `concurrency + 2`"
    raise PydanticCustomError("expected", "{expected}", {"expected": expected})


Prefetch = Annotated[
    int | str,
    PlainValidator(_prefetch),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_PREFETCH},
                {"type": "string", "pattern": r"^concurrency *\+ *[0-9]+$|\$\{"},
            ]
        }
    ),
]


STORED = "stored"
"""The library's own: AMQP 0-9-1 keeps no offsets at the broker. The others are the broker's, see
https://www.rabbitmq.com/docs/streams#consuming."""
NEXT = "next"
_OFFSET_WORDS = ("first", "last", NEXT, STORED)
MAX_OFFSET = 2**63 - 1
"""AMQP sends the number as a signed integer of 64 bits."""
_EXPECTED_OFFSET = (
    "first, last, next, stored, the number of a message from 0 on, "
    'or a moment with its zone such as "2026-09-03T12:00:00Z"'
)


def _offset(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OFFSET:
        return value
    if isinstance(value, str) and (value in _OFFSET_WORDS or _moment(value) is not None):
        return value
    raise PydanticCustomError("expected", "{expected}", {"expected": _EXPECTED_OFFSET})


def _moment(text: str) -> datetime | None:
    """``None`` for what is no moment from 1970 on, or does not name its zone."""
    try:
        moment = datetime.fromisoformat(text)
        since_epoch_s = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if moment.utcoffset() is not None and since_epoch_s >= 0 else None


def stream_offset_argument(offset: int | str) -> int | str | datetime:
    """The value of ``x-stream-offset``, of the type that the broker tells these apart by: a long
    is a number, a timestamp a moment, in whole seconds, a longstr one of the words.

    ``stored`` is not for the broker. A moment begins with the chunk that it falls into, so that
    messages which were published shortly before it are delivered as well.
    """
    moment = _moment(offset) if isinstance(offset, str) else None
    return offset if moment is None else moment.astimezone(UTC).replace(microsecond=0)


StreamOffset = Annotated[
    int | str,
    PlainValidator(_offset),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(_OFFSET_WORDS)},
                {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET},
                {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}|\$\{"},
            ]
        }
    ),
]


class ConsumerSpec(TopologyModel):
    """A consumer: the tag is its key in the file. Handlers of one consumer run one at a time
    unless ``concurrency`` says otherwise."""

    service: Name
    queue: StrictStr
    prefetch: Prefetch = DEFAULT_PREFETCH
    """Messages that may be on their way or being handled at once; 0 is without bound."""
    concurrency: Annotated[StrictInt, Field(ge=1, le=1_000)] = 1
    handles: tuple[StrictStr, ...] = ()
    """Message types that its handlers take; ``"*"`` is any. Empty: not said."""
    deadline_ms: DurationMs | None = Field(default=None, alias="deadline")
    """How long a handler may take. Longer is logged, not stopped: Python cannot end a thread."""
    offset: StreamOffset | None = None
    """Where a consumer of a stream begins: ``first``, ``last``, ``next``, ``stored``, the number of
    a message, or a moment such as ``"2026-09-03T12:00:00Z"``. Without it at ``next``: what was
    published before, or while it was not connected, is never read. Only for a stream."""

    @property
    def prefetch_count(self) -> int:
        if isinstance(self.prefetch, int):
            return self.prefetch
        return self.concurrency + int(self.prefetch.rpartition("+")[2])


class Family(TopologyModel):
    """Queues, bindings, messages and consumers that exist once for each set of parameters.

    ``{worker_id}`` in a name, key or tag stands for the parameter. Queues are the family's own;
    exchanges are those of the file.
    """

    parameters: Annotated[tuple[Name, ...], Field(min_length=1)]
    queues: FrozenMap[Queue] = Field(default_factory=FrozenDict)
    bindings: tuple[Binding, ...] = ()
    messages: FrozenMap[MessageContract] = Field(default_factory=FrozenDict)
    consumers: FrozenMap[ConsumerSpec] = Field(default_factory=FrozenDict)

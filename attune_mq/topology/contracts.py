"""Messages and consumers: who says what, and who listens."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, StrictBool, StrictInt, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from attune_mq.topology.durations import DurationMs
from attune_mq.topology.fields import FrozenDict, FrozenMap, Name, ShortString, TopologyModel
from attune_mq.topology.objects import Binding, Queue
from attune_mq.topology.stream_offsets import StreamOffset

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

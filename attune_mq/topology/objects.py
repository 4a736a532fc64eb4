"""Exchanges, queues and bindings: what a broker is asked to have.

The terms are RabbitMQ's own, see https://www.rabbitmq.com/docs/queues and
https://www.rabbitmq.com/docs/exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from attune_mq.topology.durations import DurationMs
from attune_mq.topology.fields import (
    NO_ARGUMENTS,
    Arguments,
    Count,
    Name,
    PositiveInt,
    ShortString,
    TopologyModel,
)

DEFAULT_DEAD_LETTER_TTL_MS = 24 * 60 * 60 * 1000
DEFAULT_ATTEMPTS = 3
DEFAULT_BACKOFF_MS = (1_000, 5_000)

BUILT_IN_EXCHANGES: Mapping[str, str] = MappingProxyType(
    {
        "amq.direct": "direct",
        "amq.fanout": "fanout",
        "amq.headers": "headers",
        "amq.match": "headers",
        "amq.rabbitmq.trace": "topic",
        "amq.topic": "topic",
    }
)
"""Exchanges that every virtual host has; a file can name them as keys without declaring them."""
RESERVED_PREFIX = "amq."
"""Of names that the broker gives; it refuses a declaration of any other thing with such a name."""
DEFAULT_EXCHANGE_AS_SHOWN = f"{RESERVED_PREFIX}default"
"""What the broker calls the default exchange, whose name is empty, where it checks permissions and
in what it says."""


def _exchange_type(value: Any) -> str:
    if isinstance(value, str) and (value in EXCHANGE_TYPES or value.startswith("x-")):
        return value
    expected = "direct, topic, fanout, headers, or a plugin's x-…"
    raise PydanticCustomError("expected", "{expected}", {"expected": expected})


EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
ExchangeType = Annotated[
    str,
    PlainValidator(_exchange_type),
    WithJsonSchema(
        {"anyOf": [{"enum": list(EXCHANGE_TYPES)}, {"type": "string", "pattern": "^x-"}]}
    ),
]


class Exchange(TopologyModel):
    """An exchange. ``type`` is one of RabbitMQ's four, or a plugin's (``x-…``)."""

    name: Name
    type: ExchangeType
    durable: StrictBool = True
    auto_delete: StrictBool = False
    internal: StrictBool = False
    alternate_exchange: StrictStr | None = None
    """Key of the exchange that takes what this one cannot route."""
    arguments: Arguments = NO_ARGUMENTS


DeadLetterStrategy = Literal["at-most-once", "at-least-once"]


class DeadLetterQueue(TopologyModel):
    """Dead letters go through ``exchange`` to a queue of their own, which the library makes."""

    exchange: StrictStr
    """Key of a fanout, direct or topic exchange; ``""`` is the default exchange."""
    ttl_ms: DurationMs = Field(default=DEFAULT_DEAD_LETTER_TTL_MS, alias="ttl")
    """How long a dead letter is kept. 24 h unless said otherwise."""
    strategy: DeadLetterStrategy | None = None
    """Quorum queues only; at-least-once asks for ``overflow: reject-publish``."""


class DeadLetterTo(TopologyModel):
    """Dead letters go to the exchange ``to``; bindings in the file say where they go from there."""

    to: StrictStr
    """Key of an exchange; ``""`` is the default exchange."""
    routing_key: ShortString | None = None
    """The key that dead letters get. Without it they keep the one they were published with."""
    strategy: DeadLetterStrategy | None = None


def _dead_letter_kind(value: Any) -> str:
    if value is False:
        return "<false>"
    has_to = "to" in value if isinstance(value, Mapping) else hasattr(value, "to")
    return "<to>" if has_to else "<queue>"


class OwnDeadLetterQueue(TopologyModel):
    """What a queue says of its own dead letter queue where it differs from the file's rule."""

    exchange: StrictStr | None = None
    ttl_ms: DurationMs | None = Field(default=None, alias="ttl")
    strategy: DeadLetterStrategy | None = None


DeadLetterRule = Annotated[
    Annotated[DeadLetterQueue, Tag("<queue>")]
    | Annotated[DeadLetterTo, Tag("<to>")]
    | Annotated[Literal[False], Tag("<false>")],
    Discriminator(_dead_letter_kind),
]
QueueDeadLetter = Annotated[
    Annotated[OwnDeadLetterQueue, Tag("<queue>")]
    | Annotated[DeadLetterTo, Tag("<to>")]
    | Annotated[Literal[False], Tag("<false>")],
    Discriminator(_dead_letter_kind),
]


class Retry(TopologyModel):
    """How often a message is tried, and how long after each failure the next try begins.

    With ``backoff`` the message waits in a retry queue on the broker, where it costs no consumer
    anything; its last step repeats. Without it the consumer holds the message for a moment.
    """

    attempts: PositiveInt = DEFAULT_ATTEMPTS
    backoff_ms: tuple[DurationMs, ...] = Field(default=(), alias="backoff")


QueueType = Literal["classic", "quorum", "stream"]
Overflow = Literal["drop-head", "reject-publish", "reject-publish-dlx"]


class Queue(TopologyModel):
    """A queue. Without ``type`` it is of the virtual host's default type."""

    name: ShortString
    """``""`` lets the server choose a name; such a queue belongs to the connection that made it."""
    type: QueueType | None = None
    durable: StrictBool = True
    exclusive: StrictBool = False
    auto_delete: StrictBool = False
    ttl_ms: DurationMs | None = Field(default=None, alias="ttl")
    """How long a message may wait here (``x-message-ttl``)."""
    expires_ms: DurationMs | None = Field(default=None, alias="expires")
    """How long the queue stays unused (``x-expires``). Its messages go with it."""
    max_length: Count | None = None
    max_length_bytes: Count | None = None
    overflow: Overflow | None = None
    delivery_limit: Annotated[StrictInt, Field(ge=-1)] | None = None
    max_priority: Annotated[StrictInt, Field(ge=0, le=255)] | None = None
    single_active_consumer: StrictBool | None = None
    dead_letter: QueueDeadLetter | None = None
    """Where dead letters go: by the file's ``dead_letter`` rule unless said; ``false``: nowhere."""
    retry: Retry | None = None
    purpose: Literal["main", "dead_letter", "retry"] = "main"
    """``dead_letter``: dead letters rest here; ``retry``: messages wait here for their next try."""
    arguments: Arguments = NO_ARGUMENTS

    @property
    def is_server_named(self) -> bool:
        return self.name == ""

    @property
    def belongs_to_a_connection(self) -> bool:
        """Only the connection that declares it can use it: its consumer makes it, not setup."""
        return self.exclusive or self.is_server_named


class Binding(TopologyModel):
    """``source`` gives what it gets with a matching key to ``destination``."""

    source: StrictStr
    destination: StrictStr
    destination_type: Literal["queue", "exchange"] = "queue"
    routing_key: ShortString = ""
    routing_keys: tuple[ShortString, ...] = ()
    """Several keys: a binding for each of them."""
    arguments: Arguments = NO_ARGUMENTS

    @property
    def keys(self) -> tuple[str, ...]:
        return self.routing_keys or (self.routing_key,)

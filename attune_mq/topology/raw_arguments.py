"""Which arguments of a queue its own keys can say, and which only ``arguments`` can.

``x-message-ttl: 5000`` is ``ttl: 5s``, and a file says it so and not twice. But brokers and their
definitions also have what no key says: a dead letter exchange that nobody declared, or a text
where a number belongs. Such an argument stands under ``arguments`` as it is, and ``lint`` speaks
about it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from attune_mq.topology.durations import MAX_DURATION_MS
from attune_mq.topology.fields import MAX_NAME_BYTES
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Overflow, QueueType

DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_ROUTING_KEY = "x-dead-letter-routing-key"
DEAD_LETTER_STRATEGY = "x-dead-letter-strategy"
DeadLetterStrategy = Literal["at-most-once", "at-least-once"]


def _whole(low: int, high: int | None = None) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        number = isinstance(value, int) and not isinstance(value, bool)
        return number and low <= value and (high is None or value <= high)

    return holds


def _one_of(words: Collection[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode("utf-8", "replace")) <= MAX_NAME_BYTES


_SAYS: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "x-message-ttl": _whole(0, MAX_DURATION_MS),
        "x-expires": _whole(0, MAX_DURATION_MS),
        "x-max-length": _whole(0),
        "x-max-length-bytes": _whole(0),
        "x-overflow": _one_of(get_args(Overflow)),
        "x-delivery-limit": _whole(-1),
        "x-max-priority": _whole(0, 255),
        "x-single-active-consumer": lambda value: isinstance(value, bool),
        "x-queue-type": _one_of(get_args(QueueType)),
        DEAD_LETTER_ROUTING_KEY: _is_key,
        DEAD_LETTER_STRATEGY: _one_of(get_args(DeadLetterStrategy)),
    }
)


def is_said_by_a_key(
    argument: str, arguments: Mapping[str, Any], exchanges: Collection[str]
) -> bool:
    """Whether a key of the queue says this one of its ``arguments``.

    ``exchanges`` are the broker's names of those that the file declares. A dead letter exchange
    that is not among them cannot be referred to, and neither can what goes with it.
    """
    value = arguments[argument]
    if argument == DEAD_LETTER_EXCHANGE:
        return isinstance(value, str) and (
            value == "" or value in BUILT_IN_EXCHANGES or value in exchanges
        )
    says = _SAYS.get(argument)
    if says is None or not says(value):
        return False
    if argument in (DEAD_LETTER_ROUTING_KEY, DEAD_LETTER_STRATEGY):
        has_exchange = DEAD_LETTER_EXCHANGE in arguments
        return has_exchange and is_said_by_a_key(DEAD_LETTER_EXCHANGE, arguments, exchanges)
    return True

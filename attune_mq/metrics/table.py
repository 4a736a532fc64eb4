"""Every metric there is, in one place; ``docs/metrics.md`` holds the same table for people."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """``name`` as Prometheus has it, ``_total`` of a counter included."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _counter(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(f"attune_mq_{name}_total", "counter", labels, text)


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(f"attune_mq_{name}", "gauge", labels, text)


def _seconds(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(f"attune_mq_{name}_seconds", "histogram", labels, text)


_CONSUMER = ("queue", "tag")
_CONSUMED = (*_CONSUMER, "type")
_GIVEN_UP = (*_CONSUMED, "reason")
_PUBLISHED = ("exchange", "type")
_CONNECTION = ("connection",)
_QUEUE = ("queue", "purpose")

DELIVERED = _counter(
    "messages_delivered", _CONSUMER, "Deliveries to a consumer, redeliveries included."
)
REDELIVERED = _counter(
    "messages_redelivered", _CONSUMER, "Deliveries that the broker flagged as redelivered."
)
CONSUMED = _counter("messages_consumed", _CONSUMED, "Messages whose handler returned.")
RETRIED = _counter(
    "messages_retried", _CONSUMED, "Attempts that failed and are followed by another."
)
DEAD_LETTERED = _counter(
    "messages_dead_lettered",
    _GIVEN_UP,
    "Messages given up and confirmed in a dead letter exchange.",
)
DROPPED = _counter(
    "messages_dropped",
    _GIVEN_UP,
    "Messages given up on a queue without a dead letter exchange: they are gone.",
)
REQUEUED = _counter(
    "messages_requeued", (*_CONSUMER, "reason"), "Messages requeued without being handled."
)
PAUSES = _counter(
    "consumer_pauses",
    (*_CONSUMER, "dependency"),
    "Times that a consumer paused because a dependency of its handlers was unavailable.",
)
HANDLING = _seconds("handling", _CONSUMED, "Time in the handler.")
IN_QUEUE = _seconds(
    "time_in_queue",
    _CONSUMED,
    "From the timestamp in the envelope to the first call of its handler.",
)
PUBLISHED = _counter(
    "messages_published",
    _PUBLISHED,
    "Messages that the broker confirmed, copies for retries and dead letters included.",
)
UNROUTABLE = _counter("messages_unroutable", _PUBLISHED, "Messages that no queue took.")
REFUSED = _counter(
    "messages_refused", _PUBLISHED, "Messages that the broker refused, or that AMQP cannot carry."
)
UNCONFIRMED = _counter(
    "messages_unconfirmed", _PUBLISHED, "Messages with unknown outcome (not confirmed)."
)
CONFIRM = _seconds(
    "confirm", ("exchange",), "What a caller waited for the confirm, or for another outcome."
)
CONFIRMS_WAITING = _gauge(
    "confirms_waiting", (), "Messages that wait to be sent, and outstanding confirms."
)
CONNECTIONS_OPENED = _counter(
    "connections_opened",
    _CONNECTION,
    "Connections that were opened: by a consumer, once it consumes.",
)
CONNECTIONS_LOST = _counter(
    "connections_lost",
    _CONNECTION,
    "Connections and consumers that were lost; each is followed by a reconnect.",
)
UNEXPECTED_CONFIRMS = _counter(
    "unexpected_confirms",
    _CONNECTION,
    "Confirms of messages that a publisher had not sent, or not on that connection.",
)
BLOCKED = _gauge(
    "connection_blocked",
    _CONNECTION,
    "1 while the broker blocks publishing because of a memory or disk alarm.",
)
CONSUMER_STATE = _gauge(
    "consumer_state",
    (*_CONSUMER, "state"),
    "1 for the state that the consumer is in, 0 for the others.",
)
IN_FLIGHT = _gauge("consumer_in_flight", _CONSUMER, "Unacknowledged messages of the consumer.")
PREFETCH = _gauge("consumer_prefetch", _CONSUMER, "Prefetch count of the consumer; 0 is no limit.")
QUEUE_READY = _gauge("queue_messages_ready", _QUEUE, "Messages that are ready in the queue.")
QUEUE_UNACKED = _gauge(
    "queue_messages_unacked",
    _QUEUE,
    "Unacknowledged messages of all consumers, of whichever process. Needs the HTTP API.",
)
QUEUE_CONSUMERS = _gauge(
    "queue_consumers", _QUEUE, "Consumers that the broker counts on the queue."
)
OUTBOX_MESSAGES = _gauge(
    "outbox_messages", (), "Messages in the outbox that are due and not confirmed."
)
OUTBOX_AGE = _gauge(
    "outbox_oldest_seconds",
    (),
    "For how long the oldest of them has been due; 0 when there is none.",
)
OUTBOX_FAILING = _gauge(
    "outbox_failing_messages",
    ("cause",),
    "Messages in the outbox whose last attempt to publish failed, and that are retried.",
)
OUTBOX_FAILING_AGE = _gauge(
    "outbox_failing_oldest_seconds",
    ("cause",),
    "For how long the oldest of them has been due; 0 when there is none.",
)
DATABASE_UP = _gauge("database_up", (), "1 if the database accepts writes, 0 if it does not.")

METRICS = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
"""In the order of the documentation."""

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


_CONSUMER = ("queue", "tag")
_CONSUMED = (*_CONSUMER, "type")
_PUBLISHED = ("exchange", "type")
_QUEUE = ("queue", "purpose")

DELIVERED = Metric(
    "attune_mq_messages_delivered_total",
    "counter",
    _CONSUMER,
    "Deliveries that the broker handed to a consumer, repeated ones included.",
)
REDELIVERED = Metric(
    "attune_mq_messages_redelivered_total",
    "counter",
    _CONSUMER,
    "Those of the deliveries that the broker had handed out before.",
)
CONSUMED = Metric(
    "attune_mq_messages_consumed_total",
    "counter",
    _CONSUMED,
    "Messages whose handler returned.",
)
RETRIED = Metric(
    "attune_mq_messages_retried_total",
    "counter",
    _CONSUMED,
    "Attempts that failed and are followed by another.",
)
DEAD_LETTERED = Metric(
    "attune_mq_messages_dead_lettered_total",
    "counter",
    (*_CONSUMED, "reason"),
    "Messages given up and confirmed in a dead letter exchange.",
)
DROPPED = Metric(
    "attune_mq_messages_dropped_total",
    "counter",
    (*_CONSUMED, "reason"),
    "Messages given up on a queue without a dead letter exchange: they are gone.",
)
GIVEN_BACK = Metric(
    "attune_mq_messages_given_back_total",
    "counter",
    (*_CONSUMER, "reason"),
    "Messages returned to their queue unhandled.",
)
PAUSES = Metric(
    "attune_mq_consumer_pauses_total",
    "counter",
    (*_CONSUMER, "dependency"),
    "Times that a consumer began to pause, since something that its handlers need was away.",
)
PUBLISHED = Metric(
    "attune_mq_messages_published_total",
    "counter",
    _PUBLISHED,
    "Messages that the broker confirmed, copies for retries and dead letters included.",
)
UNROUTABLE = Metric(
    "attune_mq_messages_unroutable_total",
    "counter",
    _PUBLISHED,
    "Messages that no queue took.",
)
REFUSED = Metric(
    "attune_mq_messages_refused_total",
    "counter",
    _PUBLISHED,
    "Messages that the broker refused, or that AMQP cannot carry.",
)
UNCONFIRMED = Metric(
    "attune_mq_messages_unconfirmed_total",
    "counter",
    _PUBLISHED,
    "Messages of which nobody knows whether they arrived.",
)
HANDLING = Metric(
    "attune_mq_handling_seconds",
    "histogram",
    _CONSUMED,
    "Time in the handler.",
)
IN_QUEUE = Metric(
    "attune_mq_time_in_queue_seconds",
    "histogram",
    _CONSUMED,
    "From the timestamp in the envelope to the first call of its handler.",
)
CONFIRM = Metric(
    "attune_mq_confirm_seconds",
    "histogram",
    ("exchange",),
    "What a caller waited for the confirm, or for another outcome.",
)
CONNECTIONS_OPENED = Metric(
    "attune_mq_connections_opened_total",
    "counter",
    ("connection",),
    "Connections that were opened: by a consumer, once it consumes.",
)
CONNECTIONS_LOST = Metric(
    "attune_mq_connections_lost_total",
    "counter",
    ("connection",),
    "Connections and consumers that were lost; each is followed by a reconnect.",
)
UNEXPECTED_CONFIRMS = Metric(
    "attune_mq_unexpected_confirms_total",
    "counter",
    ("connection",),
    "Confirms of messages that a publisher had not sent, or not on that connection.",
)
BLOCKED = Metric(
    "attune_mq_connection_blocked",
    "gauge",
    ("connection",),
    "1 while the broker blocks publishing, by an alarm of memory or disk.",
)
CONSUMER_STATE = Metric(
    "attune_mq_consumer_state",
    "gauge",
    (*_CONSUMER, "state"),
    "1 for the state that the consumer is in, 0 for the others.",
)
IN_FLIGHT = Metric(
    "attune_mq_consumer_in_flight",
    "gauge",
    _CONSUMER,
    "Messages that the consumer holds and has not settled.",
)
PREFETCH = Metric(
    "attune_mq_consumer_prefetch",
    "gauge",
    _CONSUMER,
    "The bound of what it may hold; 0 is none.",
)
CONFIRMS_WAITING = Metric(
    "attune_mq_confirms_waiting",
    "gauge",
    (),
    "Messages that wait to be sent or to be confirmed.",
)
QUEUE_READY = Metric(
    "attune_mq_queue_messages_ready",
    "gauge",
    _QUEUE,
    "Messages that wait in the queue.",
)
QUEUE_UNACKED = Metric(
    "attune_mq_queue_messages_unacked",
    "gauge",
    _QUEUE,
    "Messages that consumers hold, of whichever process. Needs the HTTP API.",
)
QUEUE_CONSUMERS = Metric(
    "attune_mq_queue_consumers",
    "gauge",
    _QUEUE,
    "Consumers that the broker counts on the queue.",
)
OUTBOX_MESSAGES = Metric(
    "attune_mq_outbox_messages",
    "gauge",
    (),
    "Messages in the outbox that are due and not confirmed.",
)
OUTBOX_AGE = Metric(
    "attune_mq_outbox_oldest_seconds",
    "gauge",
    (),
    "For how long the oldest of them has been due; 0 when there is none.",
)
DATABASE_UP = Metric(
    "attune_mq_database_up",
    "gauge",
    (),
    "1 while the database takes what it is given, 0 while it does not.",
)

METRICS = (
    DELIVERED,
    REDELIVERED,
    CONSUMED,
    RETRIED,
    DEAD_LETTERED,
    DROPPED,
    GIVEN_BACK,
    PAUSES,
    HANDLING,
    IN_QUEUE,
    PUBLISHED,
    UNROUTABLE,
    REFUSED,
    UNCONFIRMED,
    CONFIRM,
    CONFIRMS_WAITING,
    CONNECTIONS_OPENED,
    CONNECTIONS_LOST,
    BLOCKED,
    CONSUMER_STATE,
    IN_FLIGHT,
    PREFETCH,
    QUEUE_READY,
    QUEUE_UNACKED,
    QUEUE_CONSUMERS,
    OUTBOX_MESSAGES,
    OUTBOX_AGE,
    DATABASE_UP,
)

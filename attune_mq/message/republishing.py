"""The copies of a message that a consumer publishes before it acknowledges the original.

A copy keeps body and properties. Left out are ``user_id``, which the broker would check against
ours, ``expiration``, which has been served, and the headers ``CC`` and ``BCC``, which would send
copies to others once more; ``x-attune-cc`` keeps the former.

If the power fails before the copy is confirmed, the original is still in its queue and the copy
may be in its own too; if it fails between the confirm and the acknowledgement, both are. So a
message can be tried, or dead-lettered, once too often, and is never lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pika

from attune_mq.amqp.runtime import SYSTEM
from attune_mq.message.delivery import (
    BROKERS_COUNTS,
    COUNTED_IN,
    FAILURES,
    HELD_FOR,
    NOT_BEFORE,
    QUEUE,
    REASON,
    REDELIVERIES,
    Delivery,
)
from attune_mq.message.outgoing import Outgoing
from attune_mq.message.settlement import DeadLetter, ErrorReport, RepublishWithCount, TryAgain
from attune_mq.topology.expansion import DEFAULT_EXCHANGE, retry_queue_name
from attune_mq.topology.objects import DeadLetterTo

ORIGIN_EXCHANGE = "x-attune-exchange"
ORIGIN_ROUTING_KEY = "x-attune-routing-key"
_BROKERS_DEATHS = ("x-first-death-", "x-last-death-", "x-death")

Headers = dict[Any, Any]
"""Names are text, or bytes where a publisher sent what is no UTF-8."""


def retry_copy(
    delivery: Delivery, settlement: TryAgain, now: Callable[[], datetime] = SYSTEM.now
) -> Outgoing:
    """To the retry queue of its delay, or to the tail of its own queue, to be held there.

    The broker's history is left behind, of which RabbitMQ 3.10 would go on counting, but for the
    queue that it died in, and that it was rejected there.

    A retry queue dead-letters at least once: a message that waits there outlives a broker that is
    killed, and the deletion of its own queue.
    """
    counts: Headers = {FAILURES: settlement.failures, COUNTED_IN: delivery.queue}
    if delivery.died_in is not None:
        counts[QUEUE] = delivery.died_in
        if delivery.deaths and delivery.deaths[0].reason == "rejected":
            counts[REASON] = "rejected"
    queue = delivery.queue
    if settlement.queue_delay_ms is not None:
        queue = retry_queue_name(delivery.queue, settlement.queue_delay_ms)
    elif settlement.hold_ms:
        counts[NOT_BEFORE] = int(now().timestamp() * 1000) + settlement.hold_ms
        counts[HELD_FOR] = settlement.hold_ms
    history = _without_deaths(_headers(delivery))
    history.pop(REDELIVERIES, None)
    error = _described(settlement.error)
    return _copy(
        delivery, DEFAULT_EXCHANGE, queue, history | error | counts, history | counts, counts
    )


def republish_with_delivery_count(delivery: Delivery, settlement: RepublishWithCount) -> Outgoing:
    """To the tail of its own queue, with the count that a classic queue does not keep."""
    counts: Headers = {
        FAILURES: delivery.failures,
        REDELIVERIES: settlement.redeliveries,
        COUNTED_IN: delivery.queue,
    }
    for name in (NOT_BEFORE, HELD_FOR):
        if name in delivery.headers:
            counts[name] = delivery.headers[name]
    history = _headers(delivery)
    return _copy(delivery, DEFAULT_EXCHANGE, delivery.queue, history | counts, counts)


def dead_letter_copy(
    delivery: Delivery,
    settlement: DeadLetter,
    to: DeadLetterTo,
    now: Callable[[], datetime] = SYSTEM.now,
) -> Outgoing:
    """By way of the queue's dead letter exchange (a broker name in ``to.to``), with what is needed
    to understand why. Where that no longer fits a frame, the trace goes first, then the headers
    that came with it."""
    history = _headers(delivery)
    origin = {name: history[name] for name in (ORIGIN_EXCHANGE, ORIGIN_ROUTING_KEY)}
    report: Headers = {
        REASON: settlement.reason,
        FAILURES: settlement.attempts,
        COUNTED_IN: delivery.queue,
        "x-attune-consumer": delivery.consumer_tag,
        QUEUE: delivery.queue,
        "x-attune-died-at": now().isoformat(timespec="milliseconds"),
        **origin,
        **_described(settlement.error),
    }
    trace = {"x-attune-error-trace": settlement.error.trace} if settlement.error.trace else {}
    routing_key = to.routing_key
    if routing_key is None:  # as the broker would, had the message not come by way of a retry
        first = origin[ORIGIN_ROUTING_KEY]
        routing_key = first if isinstance(first, str) else delivery.routing_key
    choices = (history | report | trace, history | report, report | trace, report)
    return _copy(delivery, to.to, routing_key, *choices)


def _described(error: ErrorReport) -> Headers:
    return {"x-attune-error-type": error.type, "x-attune-error-message": error.text}


def _without_deaths(headers: Headers) -> Headers:
    return {
        name: value for name, value in headers.items() if not str(name).startswith(_BROKERS_DEATHS)
    }


def _headers(delivery: Delivery) -> Headers:
    """Those that it came with, less what holds for this delivery alone, plus where it came from."""
    headers: Headers = dict(delivery.headers)
    for name in (*BROKERS_COUNTS, NOT_BEFORE, HELD_FOR, "BCC"):
        headers.pop(name, None)
    carbon_copies = headers.pop("CC", None)
    if carbon_copies is not None:
        headers["x-attune-cc"] = carbon_copies
    exchange, routing_key = _origin(delivery)
    headers.setdefault(ORIGIN_EXCHANGE, exchange)
    headers.setdefault(ORIGIN_ROUTING_KEY, routing_key)
    return headers


def _origin(delivery: Delivery) -> tuple[str, str]:
    """Where it was first published: by its oldest death, if it died before."""
    if delivery.deaths and delivery.deaths[-1].routing_keys:
        oldest = delivery.deaths[-1]
        return oldest.exchange, oldest.routing_keys[0]
    return delivery.exchange, delivery.routing_key


def _copy(delivery: Delivery, exchange: str, routing_key: str, *choices: Headers) -> Outgoing:
    """With the first of the choices that AMQP can carry, or else with the last."""
    outgoing = Outgoing(exchange, routing_key, delivery.body, delivery.properties)
    for headers in choices:
        properties = copy.copy(delivery.properties)
        properties.headers = headers
        properties.delivery_mode = pika.DeliveryMode.Persistent.value
        properties.expiration = None
        properties.user_id = None
        outgoing = outgoing._replace(properties=properties)
        if outgoing.problem() is None:
            break
    return outgoing

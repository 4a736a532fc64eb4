"""The copies of a message that a consumer publishes before it acknowledges the original.

A copy keeps body and properties. Left out are ``user_id``, which the broker would check against
ours, ``expiration``, which has been served, and the headers ``CC`` and ``BCC``, which would send
copies to others once more; ``x-attune-cc`` keeps the former.
"""

from __future__ import annotations

import copy
import time
from datetime import UTC, datetime
from typing import Any

import pika

from attune_mq.messaging.delivery import FAILURES, NOT_BEFORE, QUEUE, REASON, REDELIVERIES, Delivery
from attune_mq.messaging.outgoing import Outgoing
from attune_mq.messaging.settlement import CountRedelivery, DeadLetter, TryAgain
from attune_mq.topology.expansion import retry_queue_name
from attune_mq.topology.objects import DeadLetterTo

DEFAULT_EXCHANGE = ""
ORIGIN_EXCHANGE = "x-attune-exchange"
ORIGIN_ROUTING_KEY = "x-attune-routing-key"
_BROKERS_COUNTS = ("x-delivery-count", "x-acquired-count")
_BROKERS_DEATHS = ("x-first-death-", "x-last-death-", "x-death")


def retry_copy(delivery: Delivery, settlement: TryAgain) -> Outgoing:
    """To the retry queue of its delay, or to the tail of its own queue, to be held there.

    The broker's history is left behind, of which RabbitMQ 3.10 would go on counting, but for the
    queue that it died in.
    """
    kept = _headers(delivery)
    headers = {name: kept[name] for name in kept if not name.startswith(_BROKERS_DEATHS)}
    headers |= {
        FAILURES: settlement.failures,
        "x-attune-error-type": settlement.error.type,
        "x-attune-error-message": settlement.error.text,
    }
    headers.pop(REDELIVERIES, None)
    if delivery.died_in is not None:
        headers[QUEUE] = delivery.died_in
    queue = delivery.queue
    if settlement.queue_delay_ms is not None:
        queue = retry_queue_name(delivery.queue, settlement.queue_delay_ms)
    elif settlement.hold_ms:
        headers[NOT_BEFORE] = int(time.time() * 1000) + settlement.hold_ms
    return _copy(delivery, DEFAULT_EXCHANGE, queue, headers)


def counted_copy(delivery: Delivery, settlement: CountRedelivery) -> Outgoing:
    """To its own queue again, with the count that a classic queue does not keep."""
    headers = {**_headers(delivery), REDELIVERIES: settlement.redeliveries}
    if NOT_BEFORE in delivery.headers:
        headers[NOT_BEFORE] = delivery.headers[NOT_BEFORE]
    return _copy(delivery, DEFAULT_EXCHANGE, delivery.queue, headers)


def dead_letter_copy(delivery: Delivery, settlement: DeadLetter, to: DeadLetterTo) -> Outgoing:
    """By way of the queue's dead letter exchange (a broker name in ``to.to``), with what is needed
    to understand why. Where that no longer fits a frame, the trace goes first, then the headers
    that came with it."""
    routing_key = delivery.routing_key if to.routing_key is None else to.routing_key
    original, error = _headers(delivery), settlement.error
    report: dict[str, Any] = {
        REASON: settlement.reason,
        FAILURES: settlement.attempts,
        "x-attune-error-type": error.type,
        "x-attune-error-message": error.text,
        "x-attune-consumer": delivery.consumer_tag,
        QUEUE: delivery.queue,
        ORIGIN_EXCHANGE: original[ORIGIN_EXCHANGE],
        ORIGIN_ROUTING_KEY: original[ORIGIN_ROUTING_KEY],
        "x-attune-died-at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    trace = {"x-attune-error-trace": error.trace} if error.trace else {}
    for headers in (original | report | trace, original | report, report | trace):
        outgoing = _copy(delivery, to.to, routing_key, headers)
        if outgoing.fits_a_frame():
            return outgoing
    return _copy(delivery, to.to, routing_key, report)


def _headers(delivery: Delivery) -> dict[str, Any]:
    """Those that it came with, less what holds for this delivery alone, plus where it came from."""
    headers = dict(delivery.headers)
    for name in (*_BROKERS_COUNTS, NOT_BEFORE, "BCC"):
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


def _copy(delivery: Delivery, exchange: str, routing_key: str, headers: dict[str, Any]) -> Outgoing:
    properties = copy.copy(delivery.properties)
    properties.headers = headers
    properties.delivery_mode = pika.DeliveryMode.Persistent.value
    properties.expiration = None
    properties.user_id = None
    return Outgoing(exchange, routing_key, delivery.body, properties)

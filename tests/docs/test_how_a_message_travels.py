"""The headers and numbers of the page are those of the code."""

from __future__ import annotations

import time
from typing import Any

import pika

from attune_mq.amqp import DEFAULT_HEARTBEAT_S
from attune_mq.consuming import DEFAULT_STOP_DEADLINE_S, LONGEST_PAUSE_S
from attune_mq.consuming.channel_session import RETRY_S
from attune_mq.message import MAX_HEADER_BYTES, MAX_HOLD_S, NOT_BEFORE, Delivery, Outgoing
from attune_mq.message.republishing import (
    dead_letter_copy,
    republish_with_delivery_count,
    retry_copy,
)
from attune_mq.message.settlement import (
    MAX_DELAY_MS,
    MAX_ERROR_TEXT,
    MAX_ERROR_TRACE,
    MAX_REDELIVERIES,
)
from attune_mq.publishing import DEFAULT_TIMEOUT_S, MAX_IN_FLIGHT
from attune_mq.testing import DeadLetter, ErrorReport, RepublishWithCount, TryAgain
from attune_mq.topology import DeadLetterTo, format_duration
from attune_mq.topology.objects import DEFAULT_ATTEMPTS, DEFAULT_BACKOFF_MS
from tests.docs.markdown import code_names, page

PAGE = page("how-a-message-travels.md")


def test_the_table_has_every_header_that_a_copy_can_carry() -> None:
    delivery = a_delivery({"CC": ["elsewhere"], NOT_BEFORE: int(time.time() * 1000)})
    dead = a_delivery({"x-death": [{"queue": "other", "reason": "expired"}]})
    error = ErrorReport("ValueError", "text", "trace")
    copies = (
        retry_copy(delivery, TryAgain(1, error, hold_ms=1_000)),
        retry_copy(dead, TryAgain(1, error, queue_delay_ms=1_000)),
        republish_with_delivery_count(delivery, RepublishWithCount(1)),
        dead_letter_copy(delivery, DeadLetter("rejected", error, 1), DeadLetterTo(to="dlx")),
    )
    written = {name for one in copies for name in names_of_ours(one)}
    documented = [
        name for row in PAGE.rows_under("Dead letters") for name in code_names(row["header"])
    ]

    assert sorted(documented) == sorted(written)


def test_the_numbers_are_those_of_the_code() -> None:
    documented = {row["what"]: row["value"] for row in PAGE.rows_under("The numbers")}

    assert documented == {
        "attempts, by default": str(DEFAULT_ATTEMPTS),
        "delays of held retries, without `backoff` in the file": ", ".join(
            format_duration(delay_ms) for delay_ms in DEFAULT_BACKOFF_MS
        ),
        "longest delay that a handler can request": format_duration(MAX_DELAY_MS),
        "longest time that a consumer holds a message unacked": seconds(MAX_HOLD_S),
        "redeliveries before a message is dead-lettered": str(MAX_REDELIVERIES),
        "deadline of `publish`": seconds(DEFAULT_TIMEOUT_S),
        "outstanding confirms of one publisher": str(MAX_IN_FLIGHT),
        "delay before a refused copy is published again": seconds(RETRY_S),
        "longest interval between two trials of a pause": seconds(LONGEST_PAUSE_S),
        "drain": seconds(DEFAULT_STOP_DEADLINE_S),
        "heartbeat": seconds(DEFAULT_HEARTBEAT_S),
        "characters of an error's text in a header": str(MAX_ERROR_TEXT),
        "characters of its traceback": str(MAX_ERROR_TRACE),
        "bytes of all properties of a message": str(MAX_HEADER_BYTES),
    }


def a_delivery(headers: dict[str, Any]) -> Delivery:
    return Delivery(
        body=b"{}",
        properties=pika.BasicProperties(headers=headers),
        delivery_tag=1,
        redelivered=False,
        exchange="shop",
        routing_key="order.placed",
        queue="orders",
        consumer_tag="billing",
    )


def names_of_ours(outgoing: Outgoing) -> set[str]:
    headers = outgoing.properties.headers or {}
    return {str(name) for name in headers if str(name).startswith("x-attune-")}


def seconds(value: float) -> str:
    return format_duration(int(value * 1000))

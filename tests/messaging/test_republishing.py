"""The copies that retries and dead letters are, made without a broker."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from attune_mq import Message
from attune_mq.message import MAX_HEADER_BYTES, MAX_HOLD_S, Delivery, decode
from attune_mq.message.republishing import (
    dead_letter_copy,
    republish_with_delivery_count,
    retry_copy,
)
from attune_mq.testing import DeadLetter, ErrorReport, RepublishWithCount, TryAgain
from attune_mq.topology import DeadLetterTo
from tests.messaging.deliveries import REQUEST, as_it_arrives, delivery

ERROR = ErrorReport("ValueError", "no such action", "Traceback: …")
GIVEN_UP = DeadLetter("attempts exhausted", ERROR, 3)
OWN_QUEUE = DeadLetterTo(to="dlx", routing_key="work.queue")
HELD = TryAgain(1, ERROR, hold_ms=1_000)
EXPIRED = {
    "queue": "work.queue.retry.1s",
    "reason": "expired",
    "count": 1,
    "exchange": "",
    "routing-keys": ["work.queue.retry.1s"],
}
ANY_HEADERS: dict[Any, Any] = {
    "text": "ü",
    "number": 2**40,
    "decimal": Decimal("1.5"),
    "time": datetime(2026, 9, 3, tzinfo=UTC),
    "table": {"list": [1, True, None, b"\xff"]},
    b"\xff no utf-8": b"\xff",
}


def arrived(original: Delivery, headers: dict[Any, Any], **changed: Any) -> Delivery:
    """The copy as the next consumer gets it."""
    return delivery(original.body, headers=headers, exchange="", **changed)


# Retries.


def test_a_retry_goes_to_the_retry_queue_of_its_delay() -> None:
    copy = retry_copy(delivery(), TryAgain(1, ERROR, queue_delay_ms=10_000))

    assert (copy.exchange, copy.routing_key) == ("", "work.queue.retry.10s")


def test_a_retry_without_retry_queues_goes_to_the_tail_of_its_queue_and_is_held_there() -> None:
    original = delivery()
    before = time.time()

    copy = retry_copy(original, HELD)

    again = arrived(original, as_it_arrives(copy.properties))
    assert (copy.exchange, copy.routing_key) == ("", "work.queue")
    assert 0 < again.hold_s(0.0, time.time()) <= 1 + time.time() - before
    assert not delivery(headers={"x-attune-not-before": "soon"}).hold_s(0.0, time.time())


def test_a_message_is_never_held_so_long_that_the_broker_loses_patience() -> None:
    copy = retry_copy(delivery(), TryAgain(1, ERROR, hold_ms=24 * 60 * 60 * 1000))

    again = delivery(headers=as_it_arrives(copy.properties))
    assert again.hold_s(0.0, time.time()) == MAX_HOLD_S
    assert not again.is_due(MAX_HOLD_S, time.time())


def test_a_clock_that_was_wrong_when_a_retry_was_written_does_not_hold_it_for_longer() -> None:
    ahead = datetime.now(UTC) + timedelta(hours=2)
    copy = retry_copy(delivery(), TryAgain(1, ERROR, hold_ms=30), lambda: ahead)

    again = delivery(headers=as_it_arrives(copy.properties))
    assert again.hold_s(5.0, time.time()) == pytest.approx(0.03)
    assert again.is_due(5.03, time.time())
    counted = delivery(
        headers=as_it_arrives(
            republish_with_delivery_count(again, RepublishWithCount(1)).properties
        )
    )
    assert counted.hold_s(0.0, time.time()) <= 0.03


def test_a_retry_is_the_same_message_with_its_failures_counted() -> None:
    original = delivery(headers={"x-shard": 7}, correlation_id="story", priority=4)

    copy = retry_copy(original, TryAgain(2, ERROR))

    again = arrived(original, as_it_arrives(copy.properties))
    assert copy.body == original.body
    assert copy.properties.message_id == "m-1"
    assert copy.properties.correlation_id == "story"
    assert copy.properties.priority == 4
    assert copy.properties.delivery_mode == 2
    assert again.failures == 2
    assert again.headers["x-shard"] == 7
    assert again.headers["x-attune-error-message"] == "no such action"
    assert Message(REQUEST, decode(again.body), again).attempt == 3


def test_an_original_is_not_changed_by_copying_it() -> None:
    original = delivery(headers={"CC": ["x"], "x-delivery-count": 1}, expiration="5")

    retry_copy(original, HELD)
    dead_letter_copy(original, GIVEN_UP, OWN_QUEUE)

    assert original.properties.headers == {"CC": ["x"], "x-delivery-count": 1}
    assert original.properties.expiration == "5"


def test_what_held_for_one_delivery_alone_is_left_out() -> None:
    original = delivery(
        headers={"x-delivery-count": 2, "x-acquired-count": 3, "CC": ["a"], "BCC": ["b"]},
        expiration="60000",
        user_id="guest",
    )

    copy = retry_copy(original, TryAgain(1, ERROR))

    headers = as_it_arrives(copy.properties)
    assert headers.keys().isdisjoint({"x-delivery-count", "x-acquired-count", "CC", "BCC"})
    assert headers["x-attune-cc"] == ["a"]
    assert copy.properties.expiration is None
    assert copy.properties.user_id is None


def test_waiting_in_a_retry_queue_leaves_no_trace() -> None:
    """RabbitMQ 3.10 would go on counting from what is written there."""
    headers = {"x-death": [EXPIRED], "x-first-death-queue": "q", "x-last-death-queue": "q"}

    copy = retry_copy(delivery(headers=headers), TryAgain(2, ERROR, queue_delay_ms=1_000))

    assert not [name for name in as_it_arrives(copy.properties) if "death" in name]


def test_a_dead_letter_that_is_tried_again_remembers_where_it_died() -> None:
    died = {"x-death": [EXPIRED | {"queue": "worker.7", "exchange": "work"}]}
    original = delivery(headers=died)

    again = arrived(original, as_it_arrives(retry_copy(original, HELD).properties))

    assert original.died_in == again.died_in == "worker.7"
    assert Message(REQUEST, decode(again.body), again).is_dead_letter


def test_failures_are_counted_for_one_queue() -> None:
    """Who handles the dead letters of another queue has attempts of its own."""
    given_up = dead_letter_copy(delivery(), GIVEN_UP, OWN_QUEUE)

    as_dead_letter = delivery(headers=as_it_arrives(given_up.properties), queue="work.queue.dlq")
    retried = retry_copy(as_dead_letter, TryAgain(1, ERROR))
    again = delivery(headers=as_it_arrives(retried.properties), queue="work.queue.dlq")

    assert as_dead_letter.failures == 0
    assert again.failures == 1
    assert again.headers["x-attune-queue"] == "work.queue"


@pytest.mark.parametrize("settle", [HELD, RepublishWithCount(1), GIVEN_UP])
def test_every_header_that_amqp_knows_is_carried(settle: Any) -> None:
    original = delivery(headers=ANY_HEADERS)

    copy = {
        TryAgain: lambda: retry_copy(original, settle),
        RepublishWithCount: lambda: republish_with_delivery_count(original, settle),
        DeadLetter: lambda: dead_letter_copy(original, settle, OWN_QUEUE),
    }[type(settle)]()

    assert copy.problem() is None
    assert as_it_arrives(copy.properties).items() >= ANY_HEADERS.items()


@pytest.mark.parametrize("count", [2**63 - 1, -1, True, "3", None])
def test_a_count_that_is_none_does_no_harm(count: Any) -> None:
    odd = delivery(headers={"x-attune-attempt": count, "x-attune-redeliveries": count})

    copy = retry_copy(odd, TryAgain(odd.failures + 1, ERROR))

    assert copy.problem() is None


# Redeliveries.


def test_a_message_that_came_back_on_a_classic_queue_is_counted_and_not_held_again() -> None:
    original = delivery(
        redelivered=True, headers={"x-attune-attempt": 1, "x-attune-redeliveries": 2}
    )
    assert original.redeliveries == 3

    copy = republish_with_delivery_count(original, RepublishWithCount(3))
    again = arrived(original, as_it_arrives(copy.properties))

    assert (copy.exchange, copy.routing_key) == ("", "work.queue")
    assert (again.redeliveries, again.failures) == (3, 1)
    assert again.is_due(0.0, time.time())


def test_a_message_that_came_back_while_it_was_held_is_held_further() -> None:
    due_ms = int(time.time() * 1000) + 60_000
    original = delivery(redelivered=True, headers={"x-attune-not-before": due_ms})

    copy = republish_with_delivery_count(original, RepublishWithCount(1))

    assert as_it_arrives(copy.properties)["x-attune-not-before"] == due_ms


def test_a_retry_forgets_redeliveries_since_its_handler_came_through() -> None:
    original = delivery(headers={"x-attune-redeliveries": 5})

    copy = retry_copy(original, TryAgain(1, ERROR))

    assert arrived(original, as_it_arrives(copy.properties)).redeliveries == 0


def test_a_quorum_queue_counts_by_itself() -> None:
    counted = delivery(redelivered=True, headers={"x-delivery-count": 4})

    assert counted.counted_by_broker
    assert counted.redeliveries == 4


# Dead letters.


def test_a_dead_letter_says_all_that_is_needed_to_understand_it() -> None:
    before = datetime.now(UTC)

    copy = dead_letter_copy(delivery(headers={"x-shard": 7}), GIVEN_UP, OWN_QUEUE)

    headers = as_it_arrives(copy.properties)
    died_at = datetime.fromisoformat(headers.pop("x-attune-died-at"))
    assert (copy.exchange, copy.routing_key) == ("dlx", "work.queue")
    assert headers == {
        "x-shard": 7,
        "x-attune-reason": "attempts exhausted",
        "x-attune-attempt": 3,
        "x-attune-counted-in": "work.queue",
        "x-attune-error-type": "ValueError",
        "x-attune-error-message": "no such action",
        "x-attune-error-trace": "Traceback: …",
        "x-attune-consumer": "worker@1",
        "x-attune-queue": "work.queue",
        "x-attune-exchange": "work",
        "x-attune-routing-key": "requested",
    }
    assert abs((died_at - before).total_seconds()) < 60


def test_a_dead_letter_knows_where_it_first_came_from_though_it_was_retried() -> None:
    original = delivery()
    retried = retry_copy(original, HELD)
    again = arrived(original, as_it_arrives(retried.properties), routing_key="work.queue")

    headers = as_it_arrives(dead_letter_copy(again, GIVEN_UP, OWN_QUEUE).properties)

    assert headers["x-attune-exchange"] == "work"
    assert headers["x-attune-routing-key"] == "requested"


def test_a_dead_letter_without_a_key_of_its_own_keeps_the_one_it_was_published_with() -> None:
    """As the broker's own do; the copy of a retry came with the key of its queue."""
    original = delivery()
    retried = retry_copy(original, HELD)
    again = arrived(original, as_it_arrives(retried.properties), routing_key="work.queue")

    copy = dead_letter_copy(again, GIVEN_UP, DeadLetterTo(to="elsewhere"))

    assert (copy.exchange, copy.routing_key) == ("elsewhere", "requested")


@pytest.mark.parametrize("size_bytes", [MAX_HEADER_BYTES - 2_000, MAX_HEADER_BYTES - 60])
def test_a_dead_letter_fits_a_frame_whatever_headers_it_came_with(size_bytes: int) -> None:
    original = delivery(headers={"x": "y" * size_bytes})
    error = ErrorReport("E", "e" * 100, "t" * 4_000)

    copy = dead_letter_copy(original, DeadLetter("rejected", error, 1), OWN_QUEUE)

    headers = as_it_arrives(copy.properties)
    assert copy.problem() is None
    assert headers["x-attune-reason"] == "rejected"
    assert headers["x-attune-routing-key"] == "requested"


def test_a_retry_fits_a_frame_and_keeps_its_count_whatever_headers_it_came_with() -> None:
    original = delivery(headers={"x": "y" * (MAX_HEADER_BYTES - 60)})

    copy = retry_copy(original, TryAgain(2, ERROR))

    assert copy.problem() is None
    assert arrived(original, as_it_arrives(copy.properties)).failures == 2

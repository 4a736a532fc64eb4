"""What a dead letter says of itself, whoever wrote it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from attune_mq.dead_letters import DeadLetter, Origin
from attune_mq.dead_letters.dead_letter import headers_without_deaths
from attune_mq.message import Delivery, shown_body
from attune_mq.message.masking import MASK
from attune_mq.message.republishing import dead_letter_copy
from attune_mq.testing import DeadLetter as GivenUp, ErrorReport
from attune_mq.topology import DeadLetterTo
from tests.messaging.deliveries import as_it_arrives, delivery

DIED_AT = datetime(2026, 11, 24, 3, 1, 52, tzinfo=UTC)


def death(queue: str, reason: str, exchange: str, key: str, count: int = 1) -> dict[str, Any]:
    """As RabbitMQ writes it."""
    return {
        "queue": queue,
        "reason": reason,
        "count": count,
        "exchange": exchange,
        "routing-keys": [key],
        "time": DIED_AT,
    }


def given_up(came: Delivery, reason: str = "attempts exhausted") -> Delivery:
    """What this library's consumer makes of it, as it lies in the dead letter queue."""
    settlement = GivenUp(reason, ErrorReport("app.CardRefused", "no answer"), attempts=3)
    copy = dead_letter_copy(came, settlement, DeadLetterTo(to="dlx", routing_key="work.queue"))
    return delivery(headers=as_it_arrives(copy.properties), queue="work.queue.dlq")


def test_what_a_consumer_gave_up_says_why_and_where_it_came_from() -> None:
    letter = DeadLetter.of(given_up(delivery()))

    assert (letter.message_id, letter.message_type) == ("m-1", "ExecutionRequested")
    assert letter.reason == "attempts exhausted"
    assert letter.error == "app.CardRefused: no answer"
    assert letter.attempts == 3
    assert letter.queue == "work.queue"
    assert letter.origin == Origin("work", "requested")
    assert letter.died_at is not None
    assert abs((datetime.now(UTC) - letter.died_at).total_seconds()) < 60


def test_what_the_broker_dead_lettered_says_so_by_its_words() -> None:
    headers = {"x-death": [death("work.queue", "rejected", "work", "requested", count=2)]}

    letter = DeadLetter.of(delivery(headers=headers))

    assert (letter.reason, letter.queue, letter.attempts) == ("rejected", "work.queue", 2)
    assert letter.died_at == DIED_AT
    assert letter.origin == Origin("work", "requested")
    assert letter.error is None


def test_what_expired_was_not_tried() -> None:
    letter = DeadLetter.of(delivery(headers={"x-death": [death("q", "expired", "e", "k")]}))

    assert (letter.reason, letter.attempts) == ("expired", None)


def test_of_several_deaths_the_newest_says_why_and_the_oldest_where_it_came_from() -> None:
    headers = {
        "x-death": [
            death("work.queue", "rejected", "", "work.queue"),
            death("waiting", "expired", "delayed", "later"),
        ]
    }

    letter = DeadLetter.of(delivery(headers=headers))

    assert (letter.reason, letter.queue) == ("rejected", "work.queue")
    assert letter.origin == Origin("delayed", "later")


def test_the_first_death_is_known_also_where_a_repeated_one_was_moved_to_the_front() -> None:
    headers = {
        "x-death": [
            death("work.queue", "rejected", "work", "requested", count=2),
            death("work.queue.retry.1s", "expired", "", "work.queue.retry.1s"),
        ],
        "x-first-death-queue": "work.queue",
        "x-first-death-reason": "rejected",
    }

    assert DeadLetter.of(delivery(headers=headers)).origin == Origin("work", "requested")


def test_without_a_list_of_deaths_the_first_one_is_better_than_none() -> None:
    headers = {"x-first-death-queue": "work.queue", "x-first-death-reason": "maxlen"}

    letter = DeadLetter.of(delivery(headers=headers))

    assert (letter.reason, letter.queue, letter.origin) == ("maxlen", "work.queue", None)


def test_what_says_nothing_has_nothing_said_of_it() -> None:
    letter = DeadLetter.of(delivery(b"\xff", message_id=None))

    said = {name: value for name, value in vars(letter).items() if name != "body"}
    assert set(said.values()) == {None}


def test_ids_come_from_the_envelope_or_else_from_the_properties() -> None:
    by_properties = delivery(b"no JSON", message_id="p-1", type="Wanted")
    by_both = delivery(b'{"message_id": "b-1", "message_type": ""}', message_id="p-1", type="W")

    assert DeadLetter.of(by_properties).message_id == "p-1"
    assert DeadLetter.of(by_properties).message_type == "Wanted"
    assert DeadLetter.of(by_both).message_id == "b-1"
    assert DeadLetter.of(by_both).message_type == "W"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
names = st.sampled_from(
    [
        "x-death",
        "x-attune-reason",
        "x-attune-attempt",
        "x-attune-died-at",
        "x-attune-exchange",
        "x-attune-routing-key",
        "x-attune-error-type",
        "x-attune-queue",
        "x-first-death-queue",
        b"\xff",
    ]
)
deaths = st.lists(
    st.dictionaries(
        st.sampled_from(["queue", "reason", "count", "exchange", "routing-keys"]), values
    )
)


@settings(max_examples=50, deadline=None)
@given(headers=st.dictionaries(names, values | deaths), body=st.binary())
def test_whatever_somebody_wrote_it_can_be_read(headers: dict[Any, Any], body: bytes) -> None:
    letter = DeadLetter.of(delivery(body, headers=headers))

    assert letter.attempts is None or letter.attempts >= 0
    assert letter.origin is None or all(isinstance(part, str) for part in letter.origin)
    headers_without_deaths(headers)


def test_headers_that_tell_of_deaths_are_left_out_and_all_others_kept() -> None:
    kept = {"traceparent": "00-1", "x-own": 1, "x-dead": True, b"\xff": 1}
    told = {
        **as_it_arrives(given_up(delivery()).properties),
        "x-death": [],
        "x-first-death-queue": "q",
        "x-last-death-reason": "r",
        "x-delivery-count": 3,
        "x-acquired-count": 3,
        "CC": ["a"],
        "BCC": ["b"],
    }

    assert headers_without_deaths({**kept, **told}) == kept


def test_repr_does_not_show_the_body() -> None:
    assert "s3cret" not in repr(DeadLetter.of(delivery(b"s3cret")))


# The body as people may see it.


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            b'{"payload": {"candidate_access_token": "s3cret", "pack_ref": "core"}}',
            {"payload": {"candidate_access_token": MASK, "pack_ref": "core"}},
        ),
        (b'[{"Password": 7}, {"api-key": "s"}]', [{"Password": MASK}, {"api-key": MASK}]),
        (b'{"credentials": {"user": "u", "pin": 1}}', {"credentials": MASK}),
        (b'{"token": null, "has_token": true}', {"token": None, "has_token": True}),
        (b'"caf\xc3\xa9"', "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        (b"7", 7),
        (b"", ""),
        (b"no JSON", "no JSON"),
        (b"\xff\x00", "\\xff\x00"),
        (b'"\\ud800"', "\\ud800"),
        (b"[NaN]", "[NaN]"),
    ],
)
def test_a_body_is_shown_as_json_or_text_without_its_secrets(body: bytes, shown: Any) -> None:
    assert shown_body(body) == shown


@pytest.mark.parametrize(
    "body",
    [
        b'{"payload": {"candidate_access_token": "s3cret", "pack',
        b'{"payload": {"candidate_access_token" : "s3cret',
        b'{"candidate_access_token": "s3\\"cret", "n": NaN}',
        b'{"candidate_access_token": s3cret}',
        b'{"candidate_access_token": "s3cret", "other": "\xff"}',
    ],
)
def test_a_secret_is_masked_also_in_what_is_no_json(body: bytes) -> None:
    shown = shown_body(body)

    assert isinstance(shown, str)
    assert "candidate_access_token" in shown
    assert MASK in shown
    assert "cret" not in shown


def test_a_body_that_is_nested_too_deep_is_shown_as_text() -> None:
    body = b"[" * 100_000
    assert shown_body(body) == body.decode()
    assert isinstance(shown_body(b"[" * 500 + b"]" * 500), str)

"""The envelope against a body that was written out by hand, field for field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pika
import pytest
from pydantic import ValidationError

from attune_mq.errors import MalformedMessage
from attune_mq.message.envelope import (
    Envelope,
    Ids,
    MessageHeaders,
    decode,
    decode_payload,
    encode,
)
from attune_mq.message.properties import amqp_properties
from attune_mq.payloads import PAYLOAD_TYPES, PackDeleted
from tests.messaging.bodies import ENVELOPE, REQUEST, body, canonical, with_config

MIB = 2**20


PRECISE = datetime(2026, 9, 3, 12, 34, 56, 789123, tzinfo=UTC)


def test_an_envelope_is_read_field_for_field() -> None:
    envelope = decode(ENVELOPE.encode())

    assert envelope.message_id == "550e8400-e29b-41d4-a716-446655440000"
    assert envelope.correlation_id == "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    assert envelope.message_type == "ExecutionRequested"
    assert envelope.version == "1.1"
    assert envelope.timestamp == PRECISE
    assert envelope.headers.retry_count == 2
    assert envelope.headers.source_service == "api-service"
    assert envelope.headers.trace_id == "0b7c91f0-5a0e-4a0b-9d3a-3a1f0a3f6a11"
    assert envelope.headers.model_extra == {"tenant": None, "route": {"hops": [1, 2.5, "ü"]}}
    assert decode_payload(envelope, PAYLOAD_TYPES) == REQUEST


def test_an_envelope_is_written_field_for_field() -> None:
    headers = MessageHeaders.model_validate(
        {
            "retry_count": 2,
            "source_service": "api-service",
            "trace_id": "0b7c91f0-5a0e-4a0b-9d3a-3a1f0a3f6a11",
            "tenant": None,
            "route": {"hops": [1, 2.5, "ü"]},
        }
    )
    envelope = Envelope(
        message_id="550e8400-e29b-41d4-a716-446655440000",
        correlation_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        message_type="ExecutionRequested",
        version="1.1",
        timestamp=PRECISE,
        headers=headers,
        payload={
            "execution_id": 12001,
            "action_id": 44,
            "action_ref": "core.echo",
            "parent_id": None,
            "enforcement_id": None,
            "config": {"message": "hello"},
        },
    )

    assert canonical(encode(envelope)) == canonical(ENVELOPE)


def test_a_new_message_is_written_with_what_is_unset_left_out() -> None:
    envelope = Envelope.of(
        REQUEST,
        message_id="550e8400-e29b-41d4-a716-446655440000",
        now=datetime(2026, 9, 3, 12, 0, tzinfo=UTC),
    )

    assert canonical(encode(envelope)) == canonical(
        """{"message_id": "550e8400-e29b-41d4-a716-446655440000",
            "correlation_id": "550e8400-e29b-41d4-a716-446655440000",
            "message_type": "ExecutionRequested", "version": "1.0",
            "timestamp": "2026-09-03T12:00:00Z", "headers": {"retry_count": 0},
            "payload": {"execution_id": 12001, "action_id": 44, "action_ref": "core.echo",
                        "parent_id": null, "enforcement_id": null,
                        "config": {"message": "hello"}}}"""
    )


def test_a_new_message_says_who_sent_it_and_what_it_belongs_to() -> None:
    trace_id = "0b7c91f0-5a0e-4a0b-9d3a-3a1f0a3f6a11"
    envelope = Envelope.of(
        REQUEST, source_service="executor", correlation_id="order-17", trace_id=trace_id
    )

    written = json.loads(encode(envelope))
    assert written["correlation_id"] == "order-17"
    assert written["headers"] == {
        "retry_count": 0,
        "source_service": "executor",
        "trace_id": trace_id,
    }


def test_every_new_message_has_an_id_and_a_time_of_its_own() -> None:
    before = datetime.now(UTC)
    one, two = Envelope.of(REQUEST), Envelope.of(REQUEST)

    assert UUID(one.message_id).version == 4
    assert str(UUID(one.message_id)) == one.message_id
    assert one.message_id != two.message_id
    assert one.correlation_id == one.message_id
    assert before <= one.timestamp <= two.timestamp <= datetime.now(UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        {"message_id": ""},
        {"message_id": "m" * 256},
        {"correlation_id": "line\nbreak"},
        {"trace_id": "0b7c"},
        {"now": datetime(2026, 9, 3)},
    ],
)
def test_a_new_message_that_does_not_fit_the_wire_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        Envelope.of(REQUEST, **wrong)


def test_the_least_body_is_filled_in() -> None:
    envelope = decode(
        b'{"message_type": "PackDeleted", "timestamp": "2026-09-03T12:34:56Z", "payload": {}}'
    )

    assert UUID(envelope.message_id).version == 4
    assert UUID(envelope.correlation_id).version == 4
    assert envelope.version == "1.0"
    assert envelope.headers == MessageHeaders(retry_count=0)
    assert json.loads(encode(envelope))["headers"] == {"retry_count": 0}


@pytest.mark.parametrize(
    "lacking",
    [body("message_id", "correlation_id"), body(message_id=None, correlation_id=None)],
    ids=["missing", "null"],
)
def test_missing_ids_come_from_the_amqp_properties_first(lacking: bytes) -> None:
    envelope = decode(lacking, fallback=lambda: Ids("m-1", "c-1"))
    assert (envelope.message_id, envelope.correlation_id) == ("m-1", "c-1")

    one, two = decode(lacking), decode(lacking)
    assert one.message_id != two.message_id
    assert one.correlation_id != two.correlation_id


def test_ids_of_the_body_win_over_the_amqp_properties() -> None:
    envelope = decode(ENVELOPE.encode(), fallback=lambda: Ids("m-1", "c-1"))

    assert envelope.message_id == "550e8400-e29b-41d4-a716-446655440000"
    assert envelope.correlation_id == "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.mark.parametrize("useless", ["", b"\xff\xfe", None])
def test_a_property_that_is_no_id_is_passed_over(useless: Any) -> None:
    envelope = decode(body("message_id"), fallback=lambda: Ids(useless))

    assert UUID(envelope.message_id).version == 4


def test_unknown_fields_of_the_envelope_are_ignored() -> None:
    assert decode(body(priority=5)) == decode(ENVELOPE.encode())


def test_of_two_equal_keys_the_last_counts() -> None:
    twice = ENVELOPE.replace('"version": "1.1"', '"version": "0.9", "version": "1.1"')

    assert decode(twice.encode()) == decode(ENVELOPE.encode())


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-09-03T12:34:56.789123456Z", 789123),
        ("2026-09-03T12:34:56.789123999Z", 789123),
        ("2026-09-03T12:34:56.789Z", 789000),
        ("2026-09-03T12:34:56Z", 0),
        ("2026-09-03T14:34:56.5+02:00", 500000),
        ("2026-09-03t07:04:56.5-05:30", 500000),
        ("2026-09-03 12:34:56z", 0),
    ],
)
def test_a_timestamp_is_cut_to_microseconds_and_made_utc(text: str, microsecond: int) -> None:
    envelope = decode(body(timestamp=text))

    assert envelope.timestamp == PRECISE.replace(microsecond=microsecond)
    assert envelope.timestamp.tzinfo is UTC
    written = json.loads(encode(envelope))["timestamp"]
    assert written.startswith("2026-09-03T12:34:56")
    assert written.endswith("Z")


@pytest.mark.parametrize(
    ("json_text", "value"),
    [
        ("123456789012345678901234567890", 123456789012345678901234567890),
        (r'"nul \u0000"', "nul \0"),
        (r'"\ud83d\ude00"', "😀"),
        ('{"": [[], {}, 1.0, -0.5, null]}', {"": [[], {}, 1.0, -0.5, None]}),
        ('"' + "a" * (16 * MIB) + '"', "a" * (16 * MIB)),
        ("[" + "1," * MIB + "1]", [1] * (MIB + 1)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_json_allows_is_kept_to_the_letter(json_text: str, value: object) -> None:
    envelope = decode(with_config(json_text))

    assert envelope.payload["config"] == value
    assert decode(encode(envelope)) == envelope


def test_a_header_of_ones_own_is_not_shown() -> None:
    envelope = decode(body(headers={"authorization": "s3cr3t"}))

    assert envelope.headers.model_extra == {"authorization": "s3cr3t"}
    assert "s3cr3t" not in f"{envelope!r} {envelope} {envelope.headers!r}"


def test_an_envelope_is_frozen() -> None:
    envelope = decode(ENVELOPE.encode())

    with pytest.raises(ValidationError, match="frozen"):
        envelope.version = "2"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        envelope.headers.retry_count = 3  # type: ignore[misc]


def test_an_envelope_does_not_follow_the_mapping_it_was_made_from() -> None:
    payload: dict[str, object] = {"pack_id": 1, "pack_ref": "core"}
    envelope = Envelope.of(PackDeleted(pack_id=1, pack_ref="core"))
    made = Envelope.model_validate(envelope.model_dump() | {"payload": payload})

    payload["pack_id"] = 2

    assert made.payload["pack_id"] == 1


def test_the_amqp_properties_are_those_of_the_contract() -> None:
    encoded = b"".join(amqp_properties(decode(ENVELOPE.encode())).encode())
    read = pika.BasicProperties()
    read.decode(encoded)

    assert read == pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id="550e8400-e29b-41d4-a716-446655440000",
        correlation_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        timestamp=1788438896,
    )


def test_a_time_before_1970_has_no_amqp_timestamp() -> None:
    early = Envelope.of(REQUEST, now=datetime(1969, 12, 31, 23, 59, 58, tzinfo=UTC))

    properties = amqp_properties(early)

    assert properties.timestamp is None
    assert b"".join(properties.encode())

"""Payloads against bodies that were written out by hand, field for field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from attune_mq.errors import MalformedMessage, UnknownMessageType
from attune_mq.message.envelope import Envelope, decode, decode_payload, encode
from attune_mq.message.fields import MAX_PAYLOAD_DEPTH, Id, JsonData, Text
from attune_mq.message.payload import by_message_type, payload_class
from attune_mq.payloads import (
    PAYLOAD_TYPES,
    EnforcementStatus,
    EventCreated,
    ExecutionDispatch,
    ExecutionRequested,
    ExecutionStatus,
    ExecutionStatusChanged,
    InquiryStatus,
    PackTestRequested,
    Payload,
    RuleCreated,
    WorkerRegistered,
)
from tests.messaging.bodies import BODIES, NOON, Body, canonical

each_body = pytest.mark.parametrize("name", BODIES)


def received(message_type: str, payload: object) -> Envelope:
    return Envelope.model_validate(
        {
            "message_id": "m",
            "correlation_id": "c",
            "message_type": message_type,
            "timestamp": "2026-09-03T12:34:56Z",
            "payload": payload,
        }
    )


def body_of(name: str) -> tuple[str, Body, dict[str, Any]]:
    body = BODIES[name]
    return name.partition(",")[0], body, json.loads(body.wire)


def test_the_bodies_cover_every_message_type_that_there_is() -> None:
    names = {name.partition(",")[0] for name in BODIES}
    classes = {type(body.value) for body in BODIES.values()}

    assert names == set(PAYLOAD_TYPES)
    assert classes == {each for several in PAYLOAD_TYPES.values() for each in several}


def whole_body(message_type: str, payload: str) -> str:
    return (
        f'{{"message_id": "m", "correlation_id": "m", "message_type": "{message_type}",'
        ' "version": "1.0", "timestamp": "2026-09-03T12:00:00Z", "headers": {"retry_count": 0},'
        f' "payload": {payload}}}'
    )


@each_body
def test_a_payload_is_written_as_the_wire_has_it(name: str) -> None:
    message_type, body, _ = body_of(name)

    written = encode(Envelope.of(body.value, message_id="m", now=NOON))

    assert canonical(written) == canonical(whole_body(message_type, body.wire))


@each_body
def test_a_payload_is_read_from_what_the_wire_has(name: str) -> None:
    message_type, body, _ = body_of(name)

    value = decode_payload(decode(whole_body(message_type, body.wire).encode()), PAYLOAD_TYPES)

    assert type(value) is type(body.value)
    assert value == body.value


@each_body
def test_an_optional_field_may_be_missing(name: str) -> None:
    message_type, body, wire = body_of(name)
    without = {key: value for key, value in wire.items() if key not in body.optional}

    value = decode_payload(received(message_type, without), PAYLOAD_TYPES)

    assert value == body.value.model_copy(update=dict.fromkeys(body.optional))


def required_fields() -> Iterator[tuple[str, str]]:
    for name, body in BODIES.items():
        for field in json.loads(body.wire).keys() - body.optional:
            yield name, field


@pytest.mark.parametrize(("name", "field"), sorted(required_fields()))
def test_a_required_field_must_be_there(name: str, field: str) -> None:
    message_type, _, wire = body_of(name)
    del wire[field]

    with pytest.raises(MalformedMessage) as caught:
        decode_payload(received(message_type, wire), PAYLOAD_TYPES)

    assert caught.value.problems == (f"payload.{field}: required, and missing",)


@each_body
def test_unknown_fields_are_ignored(name: str) -> None:
    message_type, body, wire = body_of(name)

    assert (
        decode_payload(received(message_type, wire | {"from_the_future": [1]}), PAYLOAD_TYPES)
        == body.value
    )


@each_body
def test_a_payload_is_frozen(name: str) -> None:
    value = BODIES[name].value

    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, next(iter(type(value).model_fields)), None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("12", "expected an integer, found a string"),
        (True, "expected an integer, found a boolean"),
        (12.0, "expected an integer, found a number"),
        (None, "expected an integer, found null"),
        ([12], "expected an integer, found an array"),
        ({}, "expected an integer, found an object"),
        (2**63, "expected a number of at most 9223372036854775807, found an integer"),
        (-(2**63) - 1, "expected a number of at least -9223372036854775808, found an integer"),
    ],
)
def test_an_id_is_a_64_bit_integer_and_nothing_else(wrong: object, said: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_payload(
            received("PackDeleted", {"pack_id": wrong, "pack_ref": "core"}), PAYLOAD_TYPES
        )

    assert caught.value.problems == (f"payload.pack_id: {said}",)


@pytest.mark.parametrize("id_", [2**63 - 1, -(2**63), 0])
def test_the_outermost_ids_are_read(id_: int) -> None:
    value = decode_payload(
        received("PackDeleted", {"pack_id": id_, "pack_ref": "core"}), PAYLOAD_TYPES
    )

    assert value.model_dump() == {"pack_id": id_, "pack_ref": "core"}


@pytest.mark.parametrize("wrong", [1, "true", None])
def test_a_flag_is_a_boolean_and_nothing_else(wrong: object) -> None:
    _, _, wire = body_of("RuleCreated")

    with pytest.raises(MalformedMessage, match=r"^payload\.enabled: expected true or false, found"):
        received("RuleCreated", wire | {"enabled": wrong}).payload_as(RuleCreated)


@pytest.mark.parametrize("wrong", [5, None, b"core"])
def test_text_is_a_string_and_nothing_else(wrong: object) -> None:
    with pytest.raises(ValidationError, match="pack_ref"):
        PAYLOAD_TYPES["PackDeleted"][0].model_validate({"pack_id": 1, "pack_ref": wrong})


@pytest.mark.parametrize("wrong", ["shell", {"shell": 1}, None, [1], ["shell", None]])
def test_an_array_of_strings_is_nothing_else(wrong: object) -> None:
    _, _, wire = body_of("WorkerRegistered")

    with pytest.raises(MalformedMessage, match=r"^payload\.runtimes.*: expected (an array|a str)"):
        received("WorkerRegistered", wire | {"runtimes": wrong}).payload_as(WorkerRegistered)


@pytest.mark.parametrize("word", ["cancelled", "canceled", "Cancelled", "Canceled", "CANCELED"])
def test_a_status_word_may_come_in_any_case_and_in_american_spelling(word: str) -> None:
    _, _, wire = body_of("ExecutionStatusChanged")

    value = received("ExecutionStatusChanged", wire | {"new_status": word}).payload_as(
        ExecutionStatusChanged
    )

    assert value.new_status is ExecutionStatus.CANCELLED
    assert Envelope.of(value).payload["new_status"] == "cancelled"
    assert InquiryStatus(word) is InquiryStatus.CANCELLED


def test_the_status_words_are_those_of_the_contract() -> None:
    executions = "requested scheduling scheduled running canceling completed failed timeout "
    assert " ".join(ExecutionStatus) == executions + "cancelled abandoned"
    assert " ".join(EnforcementStatus) == "created processed disabled"
    assert " ".join(InquiryStatus) == "pending responded timeout cancelled"
    assert [ExecutionStatus(status.upper()) for status in ExecutionStatus] == list(ExecutionStatus)


@pytest.mark.parametrize("wrong", ["done", "", " completed", 5, None])
def test_an_unknown_status_word_is_refused(wrong: object) -> None:
    _, _, wire = body_of("ExecutionStatusChanged")

    with pytest.raises(
        MalformedMessage, match=r"^payload\.new_status: expected one of 'requested'"
    ):
        decode_payload(
            received("ExecutionStatusChanged", wire | {"new_status": wrong}), PAYLOAD_TYPES
        )


def test_a_dispatch_that_lacks_a_field_is_not_taken_for_a_request() -> None:
    _, _, wire = body_of("ExecutionRequested, a dispatch")
    for field in ("worker_id", "scheduled_attempt_updated_at"):
        rest = {key: value for key, value in wire.items() if key != field}
        assert payload_class("ExecutionRequested", rest, PAYLOAD_TYPES) is ExecutionDispatch


def test_who_knows_requests_only_does_not_read_a_dispatch() -> None:
    _, _, dispatch = body_of("ExecutionRequested, a dispatch")
    known = by_message_type([ExecutionRequested])

    with pytest.raises(UnknownMessageType) as caught:
        decode_payload(received("ExecutionRequested", dispatch), known)

    assert caught.value.message_type == "ExecutionRequested"


def test_an_unknown_message_type_has_no_class() -> None:
    with pytest.raises(UnknownMessageType, match="'executionRequested'"):
        decode_payload(received("executionRequested", {"execution_id": 1}), PAYLOAD_TYPES)


class InvoicePaid(Payload):
    message_type = "InvoicePaid"
    invoice_id: Id
    at: datetime | None = None
    note: Text | None = None
    details: JsonData = None


def test_a_class_is_all_that_a_message_type_of_ones_own_needs() -> None:
    paid = InvoicePaid(invoice_id=1, at=datetime(2026, 9, 3, tzinfo=UTC))
    envelope = Envelope.of(paid)

    assert envelope.message_type == "InvoicePaid"
    assert envelope.payload == {
        "invoice_id": 1,
        "at": "2026-09-03T00:00:00Z",
        "note": None,
        "details": None,
    }
    assert envelope.payload_as(InvoicePaid) == paid
    assert decode_payload(envelope, by_message_type([InvoicePaid])) == paid


def test_a_payload_is_not_read_as_another_type() -> None:
    with pytest.raises(MalformedMessage, match=r"expected InvoicePaid, found PackDeleted"):
        received("PackDeleted", {"invoice_id": 1}).payload_as(InvoicePaid)


def test_a_time_is_made_utc_and_needs_an_offset() -> None:
    cest = timezone(timedelta(hours=2))
    worker = WorkerRegistered(
        worker_id=1, name="w", runtimes=(), registered_at=datetime(2026, 9, 3, 14, tzinfo=cest)
    )
    assert Envelope.of(worker).payload["registered_at"] == "2026-09-03T12:00:00Z"

    with pytest.raises(ValidationError, match="a time with its offset"):
        WorkerRegistered(worker_id=1, name="w", runtimes=(), registered_at=datetime(2026, 9, 3))


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "wrong",
    [float("nan"), [float("-inf")], {"a": {1}}, {1: "a"}, (1, 2), b"a", object(), CYCLE],
)
def test_what_json_cannot_hold_is_refused_when_the_payload_is_made(wrong: object) -> None:
    with pytest.raises(ValidationError, match="expected JSON"):
        EventCreated(event_id=1, trigger_ref="t", payload=wrong)


@pytest.mark.parametrize(("innermost", "levels"), [([], 1), ({}, 1), (0, 0)])
def test_a_payload_is_as_deep_as_the_rust_services_read_and_no_deeper(
    innermost: object, levels: int
) -> None:
    value: Any = innermost
    for _ in range(MAX_PAYLOAD_DEPTH - levels):
        value = {"a": value}

    assert received("Deep", value).payload == value
    with pytest.raises(ValidationError, match=f"at most {MAX_PAYLOAD_DEPTH} levels"):
        received("Deep", {"a": value})


def test_a_secret_is_shown_to_nobody_but_the_wire() -> None:
    value = BODIES["PackTestRequested"].value
    assert isinstance(value, PackTestRequested)
    envelope = Envelope.of(value)

    assert envelope.payload["candidate_access_token"] == "s3cr3t-t0ken"
    assert value.candidate_access_token == SecretStr("s3cr3t-t0ken")
    shown = [repr(value), str(value), repr(value.model_dump()), repr(envelope), str(envelope)]
    assert [text for text in shown if "s3cr3t" in text] == []


def test_an_error_in_making_a_payload_quotes_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        PackTestRequested.model_validate({"candidate_access_token": ["s3cr3t"]})

    assert "candidate_access_token" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)

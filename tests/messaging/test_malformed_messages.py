"""What is wrong with a body is said in words that quote no value, and nothing else happens."""

from __future__ import annotations

import logging
import traceback

import pytest
from pydantic import ValidationError

from attune_mq.errors import MalformedMessage
from attune_mq.message.envelope import (
    Envelope,
    MessageHeaders,
    decode,
    decode_payload,
    encode,
)
from attune_mq.message.fields import MAX_PAYLOAD_DEPTH
from attune_mq.payloads import PAYLOAD_TYPES
from tests.messaging.bodies import ENVELOPE, REQUEST, body, with_config

MIB = 2**20


def problems(broken: bytes) -> tuple[str, ...]:
    with pytest.raises(MalformedMessage) as caught:
        decode(broken)
    return caught.value.problems


@pytest.mark.parametrize(
    "wrong",
    [
        "2026-09-03",
        "2026-09-03T12:34:56",
        "2026-09-03T12:34Z",
        "2026-13-03T12:34:56Z",
        "2026-09-03T12:34:61Z",
        "2026-09-03T12:34:56+24:00",
        "0001-01-01T00:00:00+00:01",
        "٢٠٢٦-09-03T12:34:56Z",
        "1788438896",
        "now",
        "",
        1788438896,
        1788438896.5,
        None,
        True,
        [],
    ],
)
def test_what_is_no_point_in_time_is_refused(wrong: object) -> None:
    (problem,) = problems(body(timestamp=wrong))

    assert problem.startswith("timestamp: expected a time ")


@pytest.mark.parametrize("field", ["message_type", "timestamp", "payload"])
def test_what_an_envelope_must_have_is_missed(field: str) -> None:
    assert problems(body(field)) == (f"{field}: required, and missing",)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"message_id": 5}, "message_id: expected a string, found an integer"),
        ({"message_id": ""}, "message_id: expected text that matches"),
        ({"message_id": "a" * 256}, "message_id: expected text that matches"),
        ({"correlation_id": "nul\0"}, "correlation_id: expected text that matches"),
        ({"message_type": None}, "message_type: expected a string, found null"),
        ({"message_type": "Pack\nDeleted"}, "message_type: expected text that matches"),
        ({"version": 1.0}, "version: expected a string, found a number"),
        ({"version": None}, "version: expected a string, found null"),
        ({"payload": None}, "payload: expected an object, found null"),
        ({"payload": []}, "payload: expected an object, found an array"),
        ({"payload": "{}"}, "payload: expected an object, found a string"),
        ({"headers": None}, "headers: expected an object, found null"),
        ({"headers": []}, "headers: expected an object, found an array"),
        ({"headers": {"retry_count": -1}}, "headers.retry_count: expected a number of at least 0"),
        ({"headers": {"retry_count": "1"}}, "headers.retry_count: expected an integer, found a st"),
        ({"headers": {"retry_count": True}}, "headers.retry_count: expected an integer, found a b"),
        ({"headers": {"retry_count": None}}, "headers.retry_count: expected an integer, found nul"),
        ({"headers": {"retry_count": 2**64}}, "headers.retry_count: expected a number of at most"),
        ({"headers": {"source_service": 1}}, "headers.source_service: expected a string, found a"),
        ({"headers": {"trace_id": "0b7c"}}, "headers.trace_id: expected text that matches"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(
    changed: dict[str, object], said: str
) -> None:
    (problem,) = problems(body(**changed))

    assert problem.startswith(said)


def test_every_problem_is_told_at_once_up_to_a_bound() -> None:
    wrong = {"message_id": 1, "correlation_id": 1, "version": 1, "timestamp": 1, "payload": 1}

    told = problems(body("message_type", headers=1, **wrong))

    assert [problem.partition(":")[0] for problem in told] == [
        "message_id",
        "correlation_id",
        "message_type",
        "version",
        "timestamp",
        "2 more",
    ]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (b"", "body: expected JSON, found nothing"),
        (b" ", "body: expected JSON, found an error in it: EOF"),
        (b"hello", "body: expected JSON, found an error in it"),
        (ENVELOPE.encode()[:-1], "body: expected JSON, found an error in it: EOF"),
        (ENVELOPE.encode() + b"{}", "body: expected JSON, found an error in it: trailing"),
        (b"\xef\xbb\xbf" + ENVELOPE.encode(), "body: expected JSON without a byte order mark"),
        (ENVELOPE.encode("utf-16"), "body: expected UTF-8, found another encoding at byte 0"),
        (ENVELOPE.encode("latin-1"), "body: expected UTF-8, found another encoding at byte 4"),
        (b"null", "body: expected a JSON object, found null"),
        (b"[]", "body: expected a JSON object, found an array"),
        (b'"{}"', "body: expected a JSON object, found a string"),
        (b"12", "body: expected a JSON object, found an integer"),
        (b"1e2", "body: expected a JSON object, found a number"),
        (b"true", "body: expected a JSON object, found a boolean"),
        (b"[" * 100_000, "body: expected JSON, found an error in it: recursion limit"),
        (b"[" * 100_000 + b"]" * 100_000, "body: expected JSON, found an error in it: recursion"),
        (b'{"a":' * 100_000, "body: expected JSON, found an error in it: recursion limit"),
        (b"[" * (16 * MIB), "body: expected JSON, found an error in it: recursion limit"),
        (b"9" * (16 * MIB), "body: expected JSON, found an error in it: number out of range"),
        (b"\xff" * (16 * MIB), "body: expected UTF-8, found another encoding at byte 0"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_is_no_json_object_is_refused(broken: bytes, said: str) -> None:
    (problem,) = problems(broken)

    assert problem.startswith(said)


@pytest.mark.parametrize(
    "json_text",
    ["NaN", "Infinity", "-Infinity", r'"\ud800"', r'"\udc00\ud800"', '"\0"', "{1: 2}", "[,]", "01"],
)
def test_what_json_does_not_allow_is_refused(json_text: str) -> None:
    (problem,) = problems(with_config(json_text))

    assert problem.startswith("body: expected JSON, found an error in it: ")


@pytest.mark.parametrize("json_text", ["1e999", "[-1e999]", '{"a": ' + "9" * 400 + ".0}"])
def test_a_number_that_would_become_infinite_is_refused(json_text: str) -> None:
    said = "expected JSON with numbers that a double can hold, found another number"

    assert problems(with_config(json_text)) == (f"payload: {said}",)
    assert problems(ENVELOPE.replace("null", json_text, 1).encode()) == (f"headers: {said}",)


def test_a_body_deeper_than_the_limit_is_refused() -> None:
    inner = MAX_PAYLOAD_DEPTH - 1
    assert decode(with_config("[" * inner + "]" * inner)).payload["action_id"] == 44

    inner += 1
    assert problems(with_config("[" * inner + "]" * inner)) == (
        f"payload: expected JSON at most {MAX_PAYLOAD_DEPTH} levels deep, found more",
    )


def test_text_that_utf_8_cannot_hold_is_not_written() -> None:
    payload = REQUEST.model_copy(update={"config": "s3cr3t \ud800"})
    envelope = Envelope.of(REQUEST).model_copy(update={"payload": {"config": "s3cr3t \ud800"}})

    for write in (
        lambda: Envelope.of(payload),
        lambda: encode(envelope),
        lambda: decode_payload(envelope, PAYLOAD_TYPES),
    ):
        with pytest.raises(MalformedMessage, match="surrogate") as caught:
            write()
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


def test_a_payload_field_of_the_wrong_type_is_named_without_its_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = {"pack_install_id": "s3cr3t", "candidate_access_token": ["s3cr3t"]}
    envelope = decode(body(message_type="PackTestRequested", payload=wrong))

    with pytest.raises(MalformedMessage) as caught:
        decode_payload(envelope, PAYLOAD_TYPES)

    logging.getLogger("test").error("refused: %s %s", envelope, caught.value, exc_info=caught.value)

    assert caught.value.problems[0] == (
        "payload.pack_install_id: expected an integer, found a string"
    )
    assert "payload.candidate_access_token: expected a string, found an array" in str(caught.value)
    assert "s3cr3t" not in caplog.text
    assert caught.value.__context__ is None


def test_an_error_in_making_an_envelope_quotes_no_value() -> None:
    for wrong in ({"payload": ["s3cr3t"]}, {"headers": {"trace_id": "s3cr3t"}}):
        with pytest.raises(ValidationError) as caught:
            Envelope.model_validate(wrong)
        assert "s3cr3t" not in str(caught.value)

    with pytest.raises(ValidationError) as caught:
        MessageHeaders(trace_id="s3cr3t")
    assert "s3cr3t" not in str(caught.value)

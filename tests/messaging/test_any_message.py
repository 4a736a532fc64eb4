"""What holds for any envelope, and for any bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from hypothesis import HealthCheck, example, given, settings, strategies as st

from attune_mq.errors import MalformedMessage, UnknownMessageType
from attune_mq.message.envelope import Envelope, MessageHeaders, decode, decode_payload, encode
from attune_mq.payloads import PAYLOAD_TYPES, Payload
from tests.messaging.bodies import BODIES, body

patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How fast examples are found depends on the machine, and is not what is tested."""

labels = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=5)
message_headers = st.builds(
    lambda further, known: MessageHeaders.model_validate(further | known),
    st.dictionaries(
        st.text().filter(lambda key: key not in MessageHeaders.model_fields),
        json_values,
        max_size=3,
    ),
    st.fixed_dictionaries(
        {"retry_count": st.integers(0, 2**63 - 1)},
        optional={
            "source_service": st.none() | st.text(),
            "trace_id": st.none() | st.uuids().map(str) | st.uuids().map(lambda uuid: uuid.hex),
        },
    ),
)
envelopes = st.builds(
    Envelope,
    message_id=labels,
    correlation_id=labels,
    message_type=labels | st.sampled_from(sorted(PAYLOAD_TYPES)),
    version=st.text(),
    timestamp=st.datetimes(timezones=st.just(UTC)),
    headers=message_headers,
    payload=json_objects,
)


@given(envelopes)
@patiently
def test_any_envelope_that_is_written_reads_as_itself(envelope: Envelope) -> None:
    assert decode(encode(envelope)) == envelope


def what_reading_gives(received: bytes) -> Payload | MalformedMessage | UnknownMessageType:
    """Reads as a consumer does; any error but the two that it expects goes on to the test."""
    try:
        return decode_payload(decode(received), PAYLOAD_TYPES)
    except (MalformedMessage, UnknownMessageType) as error:
        return error


@given(st.binary())
@example(b"\x00")
@example(b'{"\\ud800": 1}')
@patiently
def test_arbitrary_bytes_raise_nothing_unexpected(received: bytes) -> None:
    what_reading_gives(received)


@given(data=st.data(), name=st.sampled_from(sorted(BODIES)))
@patiently
def test_a_body_with_bytes_changed_raises_nothing_unexpected(
    data: st.DataObject, name: str
) -> None:
    text = bytearray(encode(Envelope.of(BODIES[name].value)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        text[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))

    what_reading_gives(bytes(text))


any_fields: st.SearchStrategy[Mapping[str, object]] = st.fixed_dictionaries(
    {"message_type": st.sampled_from(sorted(PAYLOAD_TYPES)) | json_values},
    optional={
        "message_id": json_values,
        "correlation_id": json_values,
        "version": json_values,
        "timestamp": json_values | st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
        "headers": json_values
        | st.dictionaries(
            st.sampled_from(["retry_count", "source_service", "trace_id", "x"]), json_values
        ),
        "payload": json_values,
    },
)


@given(any_fields)
@patiently
def test_any_json_in_any_field_raises_nothing_unexpected(fields: Mapping[str, object]) -> None:
    what_reading_gives(json.dumps(fields).encode())


@given(data=st.data(), name=st.sampled_from(sorted(BODIES)))
@patiently
def test_any_json_in_any_payload_field_is_never_quoted(data: st.DataObject, name: str) -> None:
    wire = json.loads(BODIES[name].wire)
    for field in data.draw(st.sets(st.sampled_from(sorted(wire)), min_size=1)):
        wire[field] = data.draw(st.sampled_from(["s3cr3t", ["s3cr3t"], {"s3cr3t": "s3cr3t"}]))
    message_type = name.partition(",")[0]

    result = what_reading_gives(body(message_type=message_type, payload=wire))

    if isinstance(result, MalformedMessage):
        assert "s3cr3t" not in str(result)
        assert all(problem.startswith("payload.") for problem in result.problems[:5])

"""What bytes of strangers come to: each target takes any bytes, and lets no error out but ours.

``make fuzz`` drives them by coverage, ``test_hostile_bytes.py`` by Hypothesis and what was found.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress

import pika.exceptions

from attune_mq import expand, parse_topology
from attune_mq.amqp.headers import HAS_HEADERS, decode_properties
from attune_mq.dead_letters import DeadLetter
from attune_mq.dead_letters.dead_letter import headers_without_deaths
from attune_mq.definitions import import_definitions
from attune_mq.errors import AttuneError
from attune_mq.lint import lint
from attune_mq.message import decode, decode_payload, shown_body
from attune_mq.message.republishing import (
    dead_letter_copy,
    republish_with_delivery_count,
    retry_copy,
)
from attune_mq.payloads import PAYLOAD_TYPES
from attune_mq.testing import DeadLetter as GivenUp, ErrorReport, RepublishWithCount, TryAgain
from attune_mq.topology import DeadLetterTo, write_topology
from tests.messaging.deliveries import delivery

PIKA_ENDS_THE_CONNECTION = (
    pika.exceptions.AMQPError,
    struct.error,
    IndexError,
    OverflowError,
    ValueError,  # and UnicodeDecodeError
)
"""On a header table that no broker sends: it checks them itself."""
ERROR = ErrorReport("ValueError", "not today", "Traceback")


def topology(data: bytes) -> None:
    """A topology file, loaded, expanded, judged and written down again."""
    with suppress(AttuneError):
        loaded = parse_topology(data.decode(errors="replace"))
        lint(loaded)
        expanded = expand(loaded)
        assert parse_topology(write_topology(expanded)) == expanded


def envelope(data: bytes) -> None:
    """A body, read as a consumer does, and shown as ``dlq show`` does."""
    shown_body(data)
    with suppress(AttuneError):
        decode_payload(decode(data), PAYLOAD_TYPES)


def headers(data: bytes) -> None:
    """A header table as it comes in a frame, and all that is made of it."""
    try:
        properties = decode_properties(struct.pack(">HI", HAS_HEADERS, len(data)) + data)
    except PIKA_ENDS_THE_CONNECTION:
        return
    table = dict(properties.headers or {})
    delivered = delivery(headers=table, redelivered=True)
    DeadLetter.of(delivered)
    headers_without_deaths(table)
    assert delivered.failures >= 0
    assert delivered.redeliveries >= 0
    assert delivered.hold_s(0.0, 0.0) >= 0
    for copy in (
        retry_copy(delivered, TryAgain(1, ERROR, hold_ms=10)),
        republish_with_delivery_count(delivered, RepublishWithCount(1)),
        dead_letter_copy(delivered, GivenUp("rejected", ERROR, 1), DeadLetterTo(to="dlx")),
    ):
        copy.problem()


def definitions(data: bytes) -> None:
    """Definitions JSON, as people have it."""
    with suppress(AttuneError):
        import_definitions(data)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "topology": topology,
    "envelope": envelope,
    "headers": headers,
    "definitions": definitions,
}

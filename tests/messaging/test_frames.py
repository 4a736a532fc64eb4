"""The frames that are read and written without pika are what pika would read and write."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any, NamedTuple

import pika
import pytest
from hypothesis import given, strategies as st
from pika import spec
from pika.exceptions import InvalidFrameError
from pika.frame import Body, Header, Heartbeat, Method

from attune_mq.amqp import frames
from attune_mq.amqp.frames import Confirm, ConfirmReader, DeliveryReader
from attune_mq.amqp.pika_link import DirectConnection, Reader

CHANNEL, TAG, FRAME_BYTES = 7, "executor.enforcement@a", 4_096
NAMES = st.text(max_size=60)
PROPERTIES = pika.BasicProperties(content_type="application/json", headers={"n": 1})


class Arrived(NamedTuple):
    """What a reader says of a delivery."""

    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes


class Reading(DirectConnection):
    """Without a socket: what comes is fed to it, and what is pika's is noted."""

    def __init__(self, reader: Reader[Any]) -> None:
        self._frame_buffer = b""
        self._transport = None
        self.exclusive = threading.RLock()
        self.bytes_received = 0
        self.seen: list[Any] = []
        self.read_with(reader, self.seen.extend)

    def _process_frame(self, frame: Any) -> None:
        self.seen.append(type(getattr(frame, "method", frame)))

    def feed(self, data: bytes) -> None:
        self._on_data_available(data)


def delivered(
    body: bytes, *, tag: str = TAG, channel: int = CHANNEL, redelivered: bool = False,
    exchange: str = "x", routing_key: str = "k", delivery_tag: int = 1,
) -> bytes:  # fmt: skip
    """As a broker sends it, by pika's own encoding."""
    deliver = spec.Basic.Deliver(tag, delivery_tag, redelivered, exchange, routing_key)
    most = FRAME_BYTES - 8
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    whole: list[Any] = [Method(channel, deliver), Header(channel, len(body), PROPERTIES)]
    return b"".join(one.marshal() for one in [*whole, *(Body(channel, piece) for piece in pieces)])


def arrived(body: bytes, **fields: Any) -> Arrived:
    encoded = b"".join(PROPERTIES.encode())
    known: dict[str, Any] = {
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "x",
        "routing_key": "k",
    }
    return Arrived(**known | fields, properties=encoded, body=body)


@given(
    body=st.binary(max_size=3 * FRAME_BYTES),
    redelivered=st.booleans(),
    exchange=NAMES,
    routing_key=NAMES,
    delivery_tag=st.integers(1, 2**63),
    cuts=st.lists(st.integers(0, 4 * FRAME_BYTES), max_size=6),
)
def test_a_delivery_arrives_whole_however_its_bytes_are_cut(
    body: bytes, cuts: list[int], **fields: Any
) -> None:
    reading = Reading(DeliveryReader(CHANNEL, TAG, Arrived))
    data = delivered(body, **fields)

    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        reading.feed(data[start:end])

    assert reading.seen == [arrived(body, **fields)]
    assert reading.bytes_received == len(data)


def test_what_is_no_delivery_of_this_consumer_is_left_to_pika_in_its_order() -> None:
    reading = Reading(DeliveryReader(CHANNEL, TAG, Arrived))

    reading.feed(
        delivered(b"1")
        + Heartbeat().marshal()
        + delivered(b"another consumer's", tag="other")
        + delivered(b"another channel's", channel=CHANNEL + 1)
        + delivered(b"2", delivery_tag=2)
        + Method(CHANNEL, spec.Basic.Cancel(TAG)).marshal()
    )

    others = [spec.Basic.Deliver, Header, Body]
    assert reading.seen == [
        arrived(b"1"), Heartbeat, *others, *others, arrived(b"2", delivery_tag=2),
        spec.Basic.Cancel,
    ]  # fmt: skip


def test_names_that_are_no_utf_8_stay_bytes_as_with_pika() -> None:
    reading = Reading(DeliveryReader(CHANNEL, TAG, Arrived))

    reading.feed(delivered(b"", routing_key="k\u00e9").replace("\u00e9".encode(), b"\xff\xfe"))

    assert reading.seen[0].routing_key == b"k\xff\xfe"


def test_a_frame_without_its_end_is_refused() -> None:
    with pytest.raises(InvalidFrameError):
        Reading(DeliveryReader(CHANNEL, TAG, Arrived)).feed(delivered(b"body")[:-1] + b"?")


def test_confirms_of_the_channel_are_read_and_all_else_is_left_to_pika() -> None:
    reading = Reading(ConfirmReader(CHANNEL))
    said: list[Any] = [
        Method(CHANNEL, spec.Basic.Ack(3, multiple=True)),
        Method(CHANNEL + 1, spec.Basic.Ack(4)),
        Method(CHANNEL, spec.Basic.Nack(5, multiple=False)),
        Method(CHANNEL, spec.Channel.Close(404, "gone", 60, 40)),
    ]

    reading.feed(b"".join(one.marshal() for one in said))

    assert reading.seen == [
        Confirm(3, True, True), spec.Basic.Ack, Confirm(5, False, False), spec.Channel.Close,
    ]  # fmt: skip


@given(exchange=NAMES, routing_key=NAMES, mandatory=st.booleans())
def test_a_message_is_written_as_pika_writes_it(
    exchange: str, routing_key: str, mandatory: bool
) -> None:
    publish = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)

    written = frames.publish_method(CHANNEL, exchange, routing_key, mandatory=mandatory)

    assert written == Method(CHANNEL, publish).marshal()


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 8, FRAME_BYTES - 7, 3 * FRAME_BYTES])
def test_a_body_is_cut_as_pika_cuts_it(size: int) -> None:
    body = bytes(size)
    encoded = b"".join(PROPERTIES.encode())
    method = Method(CHANNEL, spec.Basic.Deliver(TAG, 1, False, "x", "k")).marshal()
    by_pika = delivered(body)[len(method) :]

    assert frames.content(CHANNEL, encoded, body, frame_bytes=FRAME_BYTES) == by_pika


def test_a_name_of_more_than_255_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="got 256"):
        frames.shortstr("k" * 256)


@given(tag=st.integers(1, 2**63), multiple=st.booleans())
def test_settlements_are_written_as_pika_writes_them(tag: int, multiple: bool) -> None:
    def by_pika(method: Any) -> bytes:
        encoded: bytes = Method(CHANNEL, method).marshal()
        return encoded

    ack = frames.ack(CHANNEL, tag, multiple=multiple)
    assert ack == by_pika(spec.Basic.Ack(tag, multiple))
    assert frames.nack(CHANNEL, tag) == by_pika(spec.Basic.Nack(tag, requeue=True))
    assert frames.reject(CHANNEL, tag) == by_pika(spec.Basic.Reject(tag, requeue=False))

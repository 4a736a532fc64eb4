"""Bytes become events, however they are cut; frames are written as pika writes them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pika
import pytest
from hypothesis import given, strategies as st
from pika import spec
from pika.exceptions import InvalidFrameError
from pika.frame import Body, Header, Heartbeat, Method

from attune_mq.amqp import frames
from attune_mq.amqp.channel_state import (
    Cancelled,
    ChannelState,
    Closed,
    Event,
    Phase,
    RawMessage,
    Returned,
)
from attune_mq.amqp.frames import Confirm
from attune_mq.amqp.pika_link import PikaLink
from attune_mq.amqp.protocol import ConnectionProtocol, NoFreeChannel

TAG, FRAME_BYTES, CHANNEL_MAX = "executor.enforcement@a", 4_096, 7
NAMES = st.text(max_size=60)
PROPERTIES = pika.BasicProperties(content_type="application/json", headers={"n": 1})


def method(channel: int, of_amqp: Any) -> bytes:
    encoded: bytes = Method(channel, of_amqp).marshal()
    return encoded


class Peer:
    """A connection that is open, and what its broker says to it."""

    def __init__(self) -> None:
        link = PikaLink(pika.ConnectionParameters(heartbeat=0))
        self.protocol = ConnectionProtocol(link)
        link.connect(0.0)
        for each in (
            spec.Connection.Start(0, 9, {}, "PLAIN", "en_US"),
            spec.Connection.Tune(CHANNEL_MAX, FRAME_BYTES, 0),
            spec.Connection.OpenOk(),
        ):
            self.say(method(0, each))
        self.received_bytes = link.bytes_received

    def say(self, *encoded: bytes) -> None:
        self.protocol.receive(b"".join(encoded))

    def channel(self) -> ChannelState:
        channel = self.protocol.open_channel()
        self.say(method(channel.number, spec.Channel.OpenOk()))
        channel.replies.clear()
        self.protocol.data_to_send()
        return channel


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def channel(peer: Peer) -> ChannelState:
    return peer.channel()


def content(start: Any, body: bytes, channel: int) -> bytes:
    """As a broker sends it, by pika's own encoding."""
    most = FRAME_BYTES - 8
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    whole: list[Any] = [Method(channel, start), Header(channel, len(body), PROPERTIES)]
    return b"".join(one.marshal() for one in [*whole, *(Body(channel, piece) for piece in pieces)])


def delivered(
    body: bytes, *, tag: str = TAG, channel: int = 1, redelivered: bool = False,
    exchange: str = "x", routing_key: str = "k", delivery_tag: int = 1,
) -> bytes:  # fmt: skip
    deliver = spec.Basic.Deliver(tag, delivery_tag, redelivered, exchange, routing_key)
    return content(deliver, body, channel)


def arrived(body: bytes, **fields: Any) -> RawMessage:
    encoded = b"".join(PROPERTIES.encode())
    known: dict[str, Any] = {
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "x",
        "routing_key": "k",
    }
    return RawMessage(**known | fields, properties=encoded, body=body)


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
    peer = Peer()
    channel = peer.channel()
    before = peer.protocol.link.bytes_received
    data = delivered(body, **fields)

    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        peer.say(data[start:end])

    assert channel.take_events() == [arrived(body, **fields)]
    assert peer.protocol.link.bytes_received == before + len(data)


def test_each_channel_has_what_came_on_it_in_its_order(peer: Peer) -> None:
    one, two = peer.channel(), peer.channel()

    peer.say(
        delivered(b"1")
        + Heartbeat().marshal()
        + delivered(b"the other's", channel=two.number)
        + delivered(b"2", delivery_tag=2)
        + method(1, spec.Basic.Cancel(TAG))
    )

    expected: list[Event] = [arrived(b"1"), arrived(b"2", delivery_tag=2), Cancelled(TAG)]
    assert one.take_events() == expected
    assert two.take_events() == [arrived(b"the other's")]


def test_what_is_fetched_is_an_answer(peer: Peer, channel: ChannelState) -> None:
    peer.say(content(spec.Basic.GetOk(9, True, "x", "k", 3), b"body", 1))
    peer.say(method(1, spec.Basic.GetEmpty()))

    fetched, empty = channel.replies
    assert fetched == arrived(b"body", delivery_tag=9, redelivered=True)
    assert isinstance(empty, spec.Basic.GetEmpty)
    assert channel.take_events() == []


def test_a_returned_message_says_why(peer: Peer, channel: ChannelState) -> None:
    peer.say(content(spec.Basic.Return(312, "NO_ROUTE", "x", "k"), b"body", 1))

    encoded = b"".join(PROPERTIES.encode())
    assert channel.take_events() == [Returned(312, "NO_ROUTE", "x", "k", encoded)]


def test_names_that_are_no_utf_8_stay_bytes_as_with_pika(peer: Peer, channel: ChannelState) -> None:
    peer.say(delivered(b"", routing_key="k\u00e9").replace("\u00e9".encode(), b"\xff\xfe"))

    [event] = channel.take_events()
    assert isinstance(event, RawMessage)
    assert bytes(event.routing_key) == b"k\xff\xfe"  # type: ignore[arg-type]


def test_a_frame_without_its_end_is_refused(peer: Peer, channel: ChannelState) -> None:
    with pytest.raises(InvalidFrameError):
        peer.say(delivered(b"body", channel=channel.number)[:-1] + b"?")


def test_a_frame_that_is_cut_short_is_refused(peer: Peer, channel: ChannelState) -> None:
    """What follows it must not be read in its place."""
    with pytest.raises(InvalidFrameError):
        peer.say(b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x50\xce", method(1, spec.Basic.Ack(2)))
    assert channel.take_events() == []


def test_confirms_are_read(peer: Peer, channel: ChannelState) -> None:
    peer.say(method(1, spec.Basic.Ack(3, multiple=True)), method(1, spec.Basic.Nack(5)))

    assert channel.take_events() == [Confirm(3, True, True), Confirm(5, False, False)]


# The life of a channel.


def test_a_channel_that_the_broker_closes_says_why_and_agrees(
    peer: Peer, channel: ChannelState
) -> None:
    peer.say(method(1, spec.Channel.Close(404, "gone", 60, 40)), delivered(b"late"))

    assert channel.take_events() == [Closed(404, "gone")]
    assert channel.phase is Phase.CLOSED
    assert peer.protocol.data_to_send() == method(1, spec.Channel.CloseOk())


def test_what_comes_while_a_channel_is_closing_is_dropped_but_confirms(
    peer: Peer, channel: ChannelState
) -> None:
    """The broker had sent them before it was asked, and requeues the messages."""
    peer.protocol.close_channel(channel)

    peer.say(delivered(b"late"), method(1, spec.Basic.Ack(1)), method(1, spec.Basic.QosOk()))
    assert channel.take_events() == [Confirm(1, False, True)]
    assert not channel.replies
    peer.say(method(1, spec.Channel.CloseOk()))
    assert channel.phase is Phase.CLOSED


def test_a_channel_that_both_sides_close_is_closed_when_the_broker_agrees(
    peer: Peer, channel: ChannelState
) -> None:
    peer.protocol.close_channel(channel)
    peer.protocol.data_to_send()

    peer.say(method(1, spec.Channel.Close(404, "gone", 60, 40)))
    assert channel.phase.value == "closing"
    assert peer.protocol.data_to_send() == method(1, spec.Channel.CloseOk())
    peer.say(method(1, spec.Channel.CloseOk()))
    assert channel.phase is Phase.CLOSED


def test_no_more_channels_are_opened_than_the_broker_allows(peer: Peer) -> None:
    channels = [peer.channel() for _ in range(CHANNEL_MAX)]
    with pytest.raises(NoFreeChannel):
        peer.protocol.open_channel()

    peer.protocol.close_channel(channels[2])
    peer.say(method(channels[2].number, spec.Channel.CloseOk()))
    assert peer.protocol.open_channel().number == channels[2].number


def test_a_lost_connection_loses_its_channels(peer: Peer, channel: ChannelState) -> None:
    channel.consumer_tags.add(TAG)

    peer.protocol.lost(ConnectionResetError())

    assert channel.phase is Phase.CLOSED
    assert not channel.consumer_tags


# What is written.


CHANNEL = 7


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
    by_pika = delivered(body, channel=CHANNEL)[len(method) :]

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

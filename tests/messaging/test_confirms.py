"""What each word of the broker says about the messages that wait for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pika
import pytest
from pika import frame, spec

from attune_mq import Publisher, Receipt, Telemetry, Topology
from attune_mq.errors import NotConfirmed, PublishRefused, Unroutable
from attune_mq.message import Outgoing
from attune_mq.message.outgoing import Outcome
from attune_mq.publishing import confirm_connection, confirms
from tests.messaging.scripted_broker import (
    Conversation,
    Script,
    ScriptedBroker,
    ack,
    nack,
    returned,
)

DEADLINE_S = 20.0
"""Long beyond what any of it takes: nobody is to wait for it."""


def message(number: int, *, message_id: str | None = None) -> Outgoing:
    properties = pika.BasicProperties(message_id=message_id or f"m{number}")
    return Outgoing("", "q", b"", properties)


def messages(count: int) -> list[Outgoing]:
    return [message(number) for number in range(1, count + 1)]


def kinds(outcomes: list[Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


@contextmanager
def publisher_of(broker: ScriptedBroker, telemetry: Telemetry | None = None) -> Iterator[Publisher]:
    publisher = Publisher(
        Topology(version=1), broker.url, timeout_s=DEADLINE_S, telemetry=telemetry
    )
    try:
        yield publisher
    finally:
        publisher.close(1)
        broker.close()


def after(count: int, *frames: bytes) -> Script:
    """Says all of it at once when so many messages have come on the first channel."""

    def script(conversation: Conversation, channel: int, number: int) -> None:
        if channel == 1 and number == count:
            conversation.say(*frames)

    return script


def in_time(outcomes: list[Outcome]) -> bool:
    return not any("no confirm within" in str(outcome) for outcome in outcomes)


@pytest.mark.parametrize(
    "confirms",
    [
        pytest.param([ack(1, 99)], id="of a tag never sent"),
        pytest.param([ack(1, 4, multiple=True)], id="of all up to a tag never sent"),
        pytest.param([nack(1, 7)], id="a refusal of a tag never sent"),
        pytest.param([ack(1, 1), ack(1, 1)], id="twice"),
    ],
)
def test_a_confirm_that_nobody_waits_for_ends_the_connection_and_is_counted(
    confirms: list[bytes],
) -> None:
    """The broker does not count as we do: each further confirm might be another message's."""
    counted: list[tuple[str, int]] = []

    class Counting(Telemetry):
        def unexpected_confirms(self, name: str, count: int) -> None:
            counted.append((name, count))

    def script(conversation: Conversation, channel: int, number: int) -> None:
        if number == 3:
            conversation.say(*confirms)
        elif number == 1 and len(counted) == 1:
            conversation.say(ack(channel, 1))

    with publisher_of(ScriptedBroker(script), Counting()) as publisher:
        outcomes = publisher.send(messages(3))
        afterwards = publisher.send([message(4)])

        assert kinds(outcomes[1:]) == [NotConfirmed, NotConfirmed]
        assert in_time(outcomes)
        assert counted == [("attune_mq publisher", 1)]
        assert kinds(afterwards) == [Receipt]
        assert publisher.connections == 2


def test_all_so_far_may_be_confirmed_by_the_tag_zero() -> None:
    with publisher_of(ScriptedBroker(after(3, ack(1, 0, multiple=True)))) as publisher:
        assert kinds(publisher.send(messages(3))) == [Receipt] * 3


def test_of_two_messages_that_look_alike_the_returned_one_is_the_next_that_is_confirmed() -> None:
    script = after(2, returned(1, "same", "q"), ack(1, 2), ack(1, 1))
    with publisher_of(ScriptedBroker(script)) as publisher:
        outcomes = publisher.send([message(n, message_id="same") for n in (1, 2)])

    assert kinds(outcomes) == [Receipt, Unroutable]


def closing() -> bytes:
    return frame.Method(0, spec.Connection.Close(320, "bye", 0, 0)).marshal()


def cut_short() -> bytes:
    """A confirm whose tag is missing: what follows it must not be read in its place."""
    return b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x50\xce"


@pytest.mark.parametrize(
    ("before", "after_it"),
    [
        pytest.param(closing(), ack(1, 2), id="the connection is closed"),
        pytest.param(cut_short(), ack(1, 2), id="a confirm without a tag"),
        pytest.param(ack(1, 2)[:-1] + b"\x00", ack(1, 2), id="a frame without its end"),
    ],
)
def test_what_came_before_an_error_counts_and_nothing_after_it(
    before: bytes, after_it: bytes
) -> None:
    script = after(2, ack(1, 1), before, after_it)
    with publisher_of(ScriptedBroker(script)) as publisher:
        outcomes = publisher.send(messages(2))

    assert kinds(outcomes) == [Receipt, NotConfirmed]
    assert in_time(outcomes)


def test_a_late_confirm_on_a_channel_that_is_replaced_is_a_receipt_and_costs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal has the channel replaced; the confirm of what is in flight comes while the broker
    closes it."""
    monkeypatch.setattr(confirms, "NACK_SUSPECT_S", 0.0)
    monkeypatch.setattr(confirms, "DRAIN_S", 0.0)

    replaced: list[int] = []

    def script(conversation: Conversation, channel: int, number: int) -> None:
        if replaced:
            conversation.say(ack(channel, number))
        elif number == 2:
            conversation.say(nack(channel, number))

    def late_confirm(channel: int) -> bytes:
        replaced.append(channel)
        return ack(channel, 1)

    broker = ScriptedBroker(script, before_close_ok=late_confirm)
    with publisher_of(broker) as publisher:
        assert kinds(publisher.send(messages(2))) == [Receipt, PublishRefused]
        assert kinds(publisher.send([message(3)])) == [Receipt]
        assert publisher.connections == 1


def test_a_broker_that_allows_one_channel_is_asked_on_that_whether_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confirm_connection, "WATCHDOG_S", 0.0)
    asked: list[Callable[[], None]] = []

    def script(conversation: Conversation, channel: int, number: int) -> None:
        asked.append(lambda: conversation.say(ack(channel, number)))

    class Answering(ScriptedBroker):
        def on_qos(self) -> None:
            if asked:  # else it is asked before the message has come
                asked.pop()()

    with publisher_of(Answering(script, channel_max=1)) as publisher:
        assert kinds(publisher.send([message(1)])) == [Receipt]
        assert publisher.connections == 1


def test_a_channel_is_replaced_where_the_broker_allows_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirms, "NACK_SUSPECT_S", 0.0)
    refusals = iter([True])

    def script(conversation: Conversation, channel: int, number: int) -> None:
        is_refused = next(refusals, False)
        conversation.say(nack(channel, number) if is_refused else ack(channel, number))

    with publisher_of(ScriptedBroker(script, channel_max=1)) as publisher:
        assert kinds(publisher.send([message(1)])) == [PublishRefused]
        assert kinds(publisher.send([message(2)])) == [Receipt]
        assert publisher.connections == 1


def test_headers_beyond_the_brokers_frames_are_refused_and_cost_nobody_else() -> None:
    def script(conversation: Conversation, channel: int, number: int) -> None:
        conversation.say(ack(channel, number))

    large = message(1)
    large.properties.headers = {"h": "x" * 5_000}
    with publisher_of(ScriptedBroker(script, frame_max=4_096)) as publisher:
        outcomes = publisher.send([large, message(2)])
        assert kinds(outcomes) == [PublishRefused, Receipt]
        assert "frame_max" in str(outcomes[0])
        assert publisher.connections == 1


def test_what_is_in_flight_is_bounded_by_bytes_as_well() -> None:
    """What the socket does not take is held in memory; so the broker is waited for before more is
    sent."""
    received: list[int] = []
    large = message(1)._replace(body=bytes(5_000_000))

    def script(conversation: Conversation, channel: int, number: int) -> None:
        received.append(number)

    with publisher_of(ScriptedBroker(script)) as publisher:
        outcomes = publisher.send([large] * 20, timeout_s=1.0)

    assert [outcome.sent for outcome in outcomes if isinstance(outcome, NotConfirmed)] == [
        *[True] * 4,
        *[False] * 16,
    ]

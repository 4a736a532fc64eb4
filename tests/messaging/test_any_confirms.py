"""Whatever the order of messages, the broker's words and losses: each message gets one outcome."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence

import pika
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from attune_mq import Receipt
from attune_mq.amqp.frames import Confirm
from attune_mq.amqp.protocol import Closed, Returned
from attune_mq.errors import NotConfirmed, PublishRefused, Unroutable
from attune_mq.message import Outgoing
from attune_mq.message.outgoing import Outcome
from attune_mq.publishing import confirms as confirms_module
from attune_mq.publishing.confirms import Confirms, Entry, Resolved

IN_FLIGHT = 5
CHANNEL, FRAME_BYTES = 1, 4_096
NO_KEY_OF_AMQP = "k" * 256
BODY_FRAME = 3
FEW = st.integers(0, 3)


def published(frames: bytes) -> list[int]:
    """The numbers of the messages, each of which is its body."""
    numbers, at = [], 0
    while at < len(frames):
        kind, _channel, size = struct.unpack_from(">BHI", frames, at)
        if kind == BODY_FRAME:
            numbers.append(int(frames[at + 7 : at + 7 + size]))
        at += size + 8
    return numbers


class AnyConfirms(RuleBasedStateMachine):
    """``unconfirmed``: what a broker would have, by its own count of what it sees on the wire."""

    def __init__(self) -> None:
        super().__init__()
        self.confirms = Confirms()
        self.now_s = 0.0
        self.entries: list[Entry] = []
        self.outcomes: list[list[Outcome]] = []
        self.seen: set[int] = set()  # on the wire, ever
        self.never_sent: set[int] = set()  # taken back, or failed, before they were sent
        self.tags = 0
        self.unconfirmed: dict[int, int] = {}
        self.returned: Counter[str | None] = Counter()

    def resolve(self, resolved: Sequence[Resolved]) -> list[int]:
        for entry, outcome in resolved:
            self.outcomes[entry.index].append(outcome)
        return [entry.index for entry, _ in resolved]

    def lose_channel(self) -> None:
        self.tags = 0
        self.unconfirmed.clear()
        self.returned.clear()

    # The publisher.

    @rule(message_ids=st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
    def submit(self, message_ids: list[str]) -> None:
        for message_id in message_ids:
            self.add(message_id, "q")
        self.send()

    @rule()
    def submit_what_amqp_cannot_carry(self) -> None:
        self.add("a", NO_KEY_OF_AMQP)

    def add(self, message_id: str, routing_key: str) -> None:
        number = len(self.entries)
        properties = pika.BasicProperties(message_id=message_id)
        outgoing = Outgoing("", routing_key, str(number).encode(), properties)
        self.entries.append(Entry(outgoing, number))
        self.outcomes.append([])
        self.confirms.submit([self.entries[-1]])

    @rule()
    def send(self) -> None:
        waiting = frozenset(self.confirms.waiting)
        may_send = self.confirms.is_ready and not self.confirms.blocked
        frames, refused = self.confirms.data_to_send(self.now_s)
        for number in self.resolve(refused):
            assert self.entries[number].message.routing_key == NO_KEY_OF_AMQP
            assert isinstance(self.outcomes[number][-1], PublishRefused)
            self.never_sent.add(number)
        numbers = published(frames)
        assert numbers == sorted(numbers), "in their order"
        assert not self.seen.intersection(numbers), "sent twice"
        assert {self.entries[number] for number in numbers} <= waiting
        assert may_send or not numbers
        self.seen.update(numbers)
        for number in numbers:
            self.tags += 1
            self.unconfirmed[self.tags] = number

    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        if self.entries:
            given_up = data.draw(st.lists(st.sampled_from(self.entries), max_size=3, unique=True))
            self.never_sent |= {
                e.index for e in frozenset(self.confirms.waiting).intersection(given_up)
            }
            self.confirms.take_back(given_up)

    @rule()
    def take_waiting(self) -> None:
        self.never_sent |= {entry.index for entry in self.confirms.take_waiting()}
        assert frozenset(self.confirms.waiting) == frozenset()

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        if self.confirms.is_to_be_replaced(self.now_s):
            self.lose()

    # The broker.

    @precondition(lambda self: not self.confirms.is_ready)
    @rule()
    def open(self) -> None:
        self.confirms.opened(CHANNEL, FRAME_BYTES, self.now_s)
        self.send()

    @rule(blocked=st.sampled_from([False, False, True]))
    def block(self, blocked: bool) -> None:
        self.confirms.blocked = blocked
        self.send()

    @precondition(lambda self: self.unconfirmed)
    @rule(data=st.data(), multiple=st.booleans(), is_ack=st.booleans())
    def confirm(self, data: st.DataObject, multiple: bool, is_ack: bool) -> None:
        tags = [0, *self.unconfirmed] if multiple else [*self.unconfirmed]
        last = data.draw(st.sampled_from(tags))
        if multiple:
            covered = [tag for tag in self.unconfirmed if tag <= last or last == 0]
        else:
            covered = [last]
        numbers = [self.unconfirmed.pop(tag) for tag in covered]
        resolved = self.confirms.receive(Confirm(last, multiple, is_ack), self.now_s)
        assert self.resolve(resolved) == numbers
        assert not self.confirms.unexpected
        for number in numbers:
            assert isinstance(self.outcomes[number][-1], self.expected(number, is_ack))

    def expected(self, number: int, is_ack: bool) -> type:
        """Of those that look alike, the first to be confirmed is the returned one."""
        message_id = self.entries[number].message.message_id
        was_returned = self.returned[message_id] > 0
        self.returned[message_id] -= was_returned
        if not is_ack:
            return PublishRefused
        return Unroutable if was_returned else Receipt

    @precondition(lambda self: self.unconfirmed)
    @rule(data=st.data())
    def return_message(self, data: st.DataObject) -> None:
        message = self.entries[data.draw(st.sampled_from([*self.unconfirmed.values()]))].message
        alike = [self.entries[number].message.message_id for number in self.unconfirmed.values()]
        if self.returned[message.message_id] < alike.count(message.message_id):
            encoded = message.encoded_properties(FRAME_BYTES)
            event = Returned(312, "NO_ROUTE", message.exchange, message.routing_key, encoded)
            assert self.confirms.receive(event, self.now_s) == []
            self.returned[message.message_id] += 1

    @precondition(lambda self: self.confirms.is_ready)
    @rule(data=st.data(), multiple=st.booleans(), is_ack=st.booleans(), beyond=st.integers(1, 3))
    def confirm_what_was_not_sent(
        self, data: st.DataObject, multiple: bool, is_ack: bool, beyond: int
    ) -> None:
        """Or twice. It ends the connection."""
        first = min(self.unconfirmed, default=self.tags + 1)
        twice = [
            tag
            for tag in range(1, self.tags + 1)
            if tag not in self.unconfirmed and (not multiple or tag < first)
        ]
        tag = data.draw(st.sampled_from([self.tags + beyond, *twice]))
        assert self.confirms.receive(Confirm(tag, multiple, is_ack), self.now_s) == []
        assert self.confirms.unexpected == 1
        self.confirms.unexpected = 0
        self.lose()

    @precondition(lambda self: self.confirms.is_ready)
    @rule(is_named=st.booleans())
    def close_channel(self, is_named: bool) -> None:
        text = "no exchange 'default'" if is_named else "something else"
        sent = [*self.unconfirmed.values()]
        assert self.resolve(self.confirms.receive(Closed(404, text), self.now_s)) == sent
        for number in sent:
            assert isinstance(self.outcomes[number][-1], (PublishRefused, NotConfirmed))
        self.lose_channel()

    @rule()
    def lose(self) -> None:
        gone = self.confirms.gone(self.now_s)
        assert [entry.index for entry in gone] == [*self.unconfirmed.values()]
        self.resolve([Resolved(entry, entry.not_confirmed("lost")) for entry in gone])
        self.lose_channel()

    @precondition(lambda self: not self.confirms.is_ready)
    @rule(tag=FEW, multiple=st.booleans())
    def confirm_late(self, tag: int, multiple: bool) -> None:
        """Of a channel that is gone."""
        assert self.confirms.receive(Confirm(tag, multiple, True), self.now_s) == []

    @invariant()
    def nothing_has_two_outcomes_nor_one_too_early(self) -> None:
        in_flight = {*self.unconfirmed.values()}
        waiting = {entry.index for entry in frozenset(self.confirms.waiting)}
        assert len(self.confirms) == len(in_flight) <= IN_FLIGHT
        assert self.confirms.count == len(in_flight) + len(waiting)
        for number, (entry, outcomes) in enumerate(zip(self.entries, self.outcomes, strict=True)):
            is_over = number in self.seen and number not in in_flight
            assert entry.sent is (number in self.seen)
            assert len(outcomes) <= 1
            assert bool(outcomes) is is_over or number in self.never_sent
            assert (number in waiting) is not (number in self.seen | self.never_sent)

    def teardown(self) -> None:
        self.lose()
        self.take_waiting()
        assert self.seen.isdisjoint(self.never_sent)
        assert self.seen | self.never_sent == {*range(len(self.entries))}
        assert all(len(self.outcomes[number]) == 1 for number in self.seen)


def test_each_message_gets_exactly_one_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirms_module, "MAX_IN_FLIGHT", IN_FLIGHT)

    run_state_machine_as_test(AnyConfirms, settings=settings(deadline=None, max_examples=100))

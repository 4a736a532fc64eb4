"""Publisher confirms as a value: messages and the broker's words in, frames and outcomes out.

No lock, thread, socket or clock: time is passed to it. Who waits for a message is not known here;
see :mod:`attune_mq.publishing.confirm_connection`.

If the power fails: here, then the caller that handed a message over has no receipt and still owns
it. At the broker, then what it confirmed is on its disk, and what it did not confirm is reported as
unconfirmed when the connection is found to be lost, or when the caller's deadline passes before.

Sources: https://www.rabbitmq.com/docs/confirms, https://www.rabbitmq.com/docs/publishers#unroutable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from attune_mq.amqp.frames import Confirm
from attune_mq.amqp.headers import decode_properties
from attune_mq.amqp.protocol import Closed, Event, Returned
from attune_mq.errors import NotConfirmed, PublishRefused, Unroutable
from attune_mq.message.outgoing import Outcome, Outgoing, Receipt, Unsendable
from attune_mq.topology.objects import DEFAULT_EXCHANGE_AS_SHOWN

MAX_IN_FLIGHT = 1_000
"""Messages sent and not confirmed. More do not make it faster (measured); they cost memory."""
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""Their bodies, beyond the first: what the socket does not take is held in memory."""
NACK_SUSPECT_S = 1.0
"""The least age of a channel that is replaced because of a nack."""
DRAIN_S = 5.0
"""How long it is waited for what is in flight on a channel that is to be replaced."""


class Entry:
    """One message of a batch. ``abandoned``: its caller waits no longer."""

    __slots__ = ("abandoned", "index", "message", "returned", "sent")

    def __init__(self, message: Outgoing, index: int = 0) -> None:
        self.message = message
        self.index = index
        self.returned: str | None = None
        self.sent = False
        self.abandoned = False

    def confirmed(self) -> Outcome:
        """The broker acknowledged, which it also does for what it has just returned."""
        message = self.message
        if self.returned is None:
            return Receipt(str(message.message_id), message.exchange, message.routing_key)
        text = f"{message}: no queue takes it ({self.returned}); bind a queue to that key"
        return Unroutable(text, message_id=message.message_id)

    def refused(self, reason: str) -> Outcome:
        text = f"{self.message}: refused: {reason}"
        return PublishRefused(text, message_id=self.message.message_id)

    def not_confirmed(self, reason: str, cause: BaseException | None = None) -> NotConfirmed:
        text = f"{self.message}: not confirmed: {reason}"
        error = NotConfirmed(text, sent=self.sent, message_id=self.message.message_id)
        error.__cause__ = cause
        return error


class Resolved(NamedTuple):
    entry: Entry
    outcome: Outcome


class Confirms:
    """What waits to be sent, what was sent on one channel and not confirmed, by delivery tag, and
    what each word of the broker says about it."""

    def __init__(self) -> None:
        self.blocked = False
        """The broker takes nothing: an alarm of memory or disk."""
        self.heard_at_s = 0.0
        """When the broker last spoke, or began to owe a word."""
        self.unexpected = 0
        """Confirms of what was not sent, or twice: the broker does not count messages as we do, so
        each further one might be another message's. The code that finds one ends the connection."""
        self.waiting: deque[Entry] = deque()
        """Those that will be sent, on this connection or the next."""
        self._outstanding: dict[int, Entry] = {}
        self._next_tag = 1
        self._bytes = 0
        self._returned: dict[tuple[str | None, str, str], list[str]] = {}
        self._channel: int | None = None
        self._frame_bytes = 0
        self._opened_at_s = 0.0
        self.replace_at_s: float | None = None
        """When its channel is to be replaced at the latest: nothing is sent until there is another
        one."""

    def __len__(self) -> int:
        """How many were sent and not confirmed."""
        return len(self._outstanding)

    @property
    def count(self) -> int:
        """Those that wait to be sent included."""
        return len(self._outstanding) + len(self.waiting)

    @property
    def is_ready(self) -> bool:
        """Whether there is a channel to send on."""
        return self._channel is not None

    @property
    def is_busy(self) -> bool:
        """Whether a word of the broker is expected."""
        return bool(self._outstanding or self.waiting) or self._channel is None

    @property
    def is_full(self) -> bool:
        return len(self._outstanding) >= MAX_IN_FLIGHT or self._bytes >= MAX_IN_FLIGHT_BYTES

    def silent_since_s(self) -> float | None:
        """Since when the broker owes an answer and has sent none, though it reads."""
        owes = self._outstanding or self._channel is None or self.replace_at_s is not None
        return self.heard_at_s if owes and not self.blocked else None

    def submit(self, entries: Iterable[Entry]) -> None:
        self.waiting.extend(entries)

    def take_back(self, entries: Iterable[Entry]) -> bool:
        """Nobody waits for them any more: what was not sent never will be. Whether nothing goes
        out since none of all in flight is waited for."""
        for entry in entries:
            entry.abandoned = True
        self.waiting = deque(entry for entry in self.waiting if not entry.abandoned)
        is_stuck = self.is_full and all(one.abandoned for one in self._outstanding.values())
        return is_stuck and self.is_ready

    def take_waiting(self) -> list[Entry]:
        """Those that were not sent, which never will be."""
        waiting, self.waiting = list(self.waiting), deque()
        return waiting

    def opened(self, channel: int, frame_bytes: int, now_s: float) -> None:
        """A channel in confirm mode, on which the broker counts messages from 1."""
        self._channel, self._frame_bytes, self._opened_at_s = channel, frame_bytes, now_s
        self.replace_at_s = None

    def gone(self, now_s: float) -> list[Entry]:
        """The channel is closed: all that was sent on it and not confirmed."""
        entries = list(self._outstanding.values())
        self._outstanding.clear()
        self._returned.clear()
        self._next_tag, self._bytes = 1, 0
        self._channel = self.replace_at_s = None
        self.heard_at_s = now_s
        return entries

    def receive(self, event: Event, now_s: float) -> list[Resolved]:
        match event:
            case Confirm():
                return self._confirmed(event, now_s)
            case Returned(code, why, exchange, routing_key, properties):
                self._note_return(f"{code} {why}", exchange, routing_key, properties)
                return []
            case Closed(code, text):
                return list(_blamed_or_not(self.gone(now_s), code, text))
            case _:
                raise AssertionError(f"no event of a publisher's channel: {event}")

    def data_to_send(self, now_s: float) -> tuple[bytes, list[Resolved]]:
        """As many as may be in flight; and those that AMQP cannot carry. What is counted as sent is
        sent now, or the connection is ended: nothing may be sent after what was counted only."""
        frames: list[bytes] = []
        refused: list[Resolved] = []
        while self.waiting and self._may_send():
            entry = self.waiting.popleft()
            try:
                assert self._channel is not None
                frames.append(entry.message.frames(self._channel, self._frame_bytes))
            except Unsendable as error:
                refused.append(Resolved(entry, entry.refused(str(error))))
                continue
            if not self._outstanding:
                self.heard_at_s = now_s
            self.record(entry)
        return b"".join(frames), refused

    def record(self, entry: Entry) -> None:
        """It counts as sent."""
        entry.sent = True
        self._outstanding[self._next_tag] = entry
        self._next_tag += 1
        self._bytes += len(entry.message.body)

    def is_to_be_replaced(self, now_s: float) -> bool:
        """Whether the channel is to be closed now, so that another one follows: all that was in
        flight is confirmed, or has taken too long. Confirms that come before the broker agrees to
        the closing count."""
        due_s = self.replace_at_s
        return due_s is not None and (not self._outstanding or now_s >= due_s)

    def _may_send(self) -> bool:
        is_ready = self._channel is not None and self.replace_at_s is None
        return is_ready and not self.blocked and not self.is_full

    def _confirmed(self, confirm: Confirm, now_s: float) -> list[Resolved]:
        entries = self._settle(confirm)
        self.heard_at_s = now_s
        if not entries and (self._outstanding or self.is_ready):
            self.unexpected += 1
        if confirm.is_ack:
            return [Resolved(entry, entry.confirmed()) for entry in entries]
        self._suspect_channel(now_s)
        why = "a queue is full or cannot take it (basic.nack)"
        return [Resolved(entry, entry.refused(why)) for entry in entries]

    def _suspect_channel(self, now_s: float) -> None:
        """A channel of RabbitMQ 3.10 that first publishes to a quorum queue while that elects a
        leader is nacked for ever (measured); a new one is not. A full queue nacks too, and a new
        channel changes nothing of that, so only a channel of some age is replaced."""
        if (
            self.is_ready
            and self.replace_at_s is None
            and now_s - self._opened_at_s > NACK_SUSPECT_S
        ):
            self.replace_at_s = now_s + DRAIN_S

    def _settle(self, confirm: Confirm) -> list[Entry]:
        """Tags only ever grow, so the entries stand in their order."""
        if not confirm.multiple:
            tags = [confirm.delivery_tag] if confirm.delivery_tag in self._outstanding else []
        else:
            tags = self._up_to(confirm.delivery_tag or self._next_tag - 1)
        entries = [self._outstanding.pop(tag) for tag in tags]
        for entry in entries:
            self._bytes -= len(entry.message.body)
            if self._returned:
                self._mark_if_returned(entry)
        return entries

    def _up_to(self, last: int) -> list[int]:
        if last >= self._next_tag:
            return []
        tags = []
        for tag in self._outstanding:
            if tag > last:
                break
            tags.append(tag)
        return tags

    def _note_return(self, why: str, exchange: str, routing_key: str, properties: bytes) -> None:
        """``basic.return`` has no delivery tag. It comes before the confirm of its message, so of
        several that look alike it is the first to be confirmed."""
        message_id = decode_properties(properties).message_id
        self._returned.setdefault((message_id, exchange, routing_key), []).append(why)

    def _mark_if_returned(self, entry: Entry) -> None:
        message = entry.message
        looks = message.message_id, message.exchange, message.routing_key
        reasons = self._returned.get(looks)
        if reasons:
            entry.returned = reasons.pop(0)
            if not reasons:
                del self._returned[looks]


def _blamed_or_not(entries: Sequence[Entry], code: int, text: str) -> Iterable[Resolved]:
    """Those that the broker's reason for closing the channel fits are refused; of the others
    nothing is known."""
    named = _named_in(entries, text)
    for entry in entries:
        if entry in named:
            yield Resolved(entry, entry.refused(f"{code} {text}"))
        else:
            why = "the channel was closed because of another message"
            yield Resolved(entry, entry.not_confirmed(why))


def _named_in(entries: Sequence[Entry], text: str) -> Collection[Entry]:
    if len(entries) == 1:
        return entries
    largest = max((len(entry.message.body) for entry in entries), default=0)
    is_size = "message size" in text
    return {
        entry
        for entry in entries
        if f"exchange '{entry.message.exchange or DEFAULT_EXCHANGE_AS_SHOWN}'" in text
        or (is_size and len(entry.message.body) == largest)
    }

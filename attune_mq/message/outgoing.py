"""A message on its way out, and the ledger of those whose confirm has not come yet."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Collection, Container, Sequence
from typing import NamedTuple, Self

import pika
from pika import exceptions as pika_errors

from attune_mq.amqp.frames import HEADER_OVERHEAD_BYTES, Confirm, content, publish_method
from attune_mq.errors import NotConfirmed, PublishError, PublishRefused, Unroutable
from attune_mq.topology.objects import DEFAULT_EXCHANGE_AS_SHOWN

MAX_FRAME_BYTES = 131_072
"""RabbitMQ's largest frame, unless it is configured (``frame_max``)."""
MAX_HEADER_BYTES = MAX_FRAME_BYTES - 64
"""What fits such a frame, less what the frame itself needs."""
MAX_IN_FLIGHT = 1_000
"""Messages sent and not confirmed. More do not make it faster (measured); they cost memory."""
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""Their bodies, beyond the first: what the socket does not take is held in memory."""


UNENCODABLE = (
    pika_errors.AMQPError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What pika stumbles over where AMQP cannot carry a value. Not every ``Exception``: that of a time
limit which passes in this moment is the caller's."""


class Unsendable(ValueError):
    """AMQP cannot carry this message; nothing of it was sent."""

    @classmethod
    def because(cls, error: Exception) -> Self:
        return cls(f"it cannot be sent over AMQP: {type(error).__name__}: {error}")


class Outgoing(NamedTuple):
    """What is sent: broker names, a body and its properties. ``message_type`` is for messages to
    people only. ``mandatory``: it is an error when no queue takes it."""

    exchange: str
    routing_key: str
    body: bytes
    properties: pika.BasicProperties
    message_type: str = ""
    mandatory: bool = True

    @property
    def message_id(self) -> str | None:
        return self.properties.message_id

    def problem(self) -> str | None:
        """Why AMQP cannot carry these properties, if it cannot: ask before anything is sent.

        A header table beyond a frame is a 501 that ends the connection for everybody on it. A
        broker whose ``frame_max`` is smaller takes less: that is asked when it is sent.
        """
        try:
            self.encoded_properties(MAX_HEADER_BYTES)
        except Unsendable as error:
            return str(error)
        return None

    def encoded_properties(self, max_bytes: int) -> bytes:
        """Raises :class:`Unsendable`, see :meth:`problem`."""
        try:
            encoded = b"".join(self.properties.encode())
        except UNENCODABLE as error:
            raise Unsendable.because(error) from error
        if len(encoded) > max_bytes:
            raise Unsendable(
                f"its headers exceed {max_bytes:,} bytes, a frame of AMQP (the broker's frame_max)"
            )
        return encoded

    def frames(self, channel: int, frame_bytes: int) -> bytes:
        """``frame_bytes``: the largest frame agreed on. Raises :class:`Unsendable`."""
        most = min(MAX_HEADER_BYTES, frame_bytes - HEADER_OVERHEAD_BYTES)
        properties = self.encoded_properties(most)
        try:
            method = publish_method(
                channel, self.exchange, self.routing_key, mandatory=self.mandatory
            )
        except ValueError as error:
            raise Unsendable.because(error) from error
        return method + content(channel, properties, self.body, frame_bytes=frame_bytes)

    def __str__(self) -> str:
        what = self.message_type or "message"
        return (
            f"{what} {self.properties.message_id} to exchange '{self.exchange}' "
            f"with routing key '{self.routing_key}'"
        )


class Receipt(NamedTuple):
    """The broker has the message in every queue that it was routed to."""

    message_id: str
    exchange: str
    routing_key: str


Outcome = Receipt | PublishError


class Batch:
    """Messages that one caller waits for, each resolved exactly once. At least one.

    All but :meth:`wait` is called with the lock of its connection held.
    """

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self._outcomes: list[Outcome | None] = [None] * len(messages)
        self.entries = [Entry(message, self, index) for index, message in enumerate(messages)]
        self._left = len(messages)
        self._pending = threading.Lock()  # until all are resolved; an Event costs five times that
        self._pending.acquire()

    def resolve(self, index: int, outcome: Outcome) -> None:
        """The first outcome counts: the confirm that came, or the deadline that passed before."""
        if self._outcomes[index] is None:
            self._outcomes[index] = outcome
            self._left -= 1
            if not self._left:
                self._pending.release()

    def fail(self, reason: str, cause: BaseException, *, but: Container[Entry]) -> None:
        """All that is not resolved, ``but`` those which will be. Also after a thread was
        interrupted in the midst of :meth:`resolve`."""
        for entry in self.entries:
            if entry not in but and self._outcomes[entry.index] is None:
                self._outcomes[entry.index] = entry.error(reason, cause)
        self._left = self._outcomes.count(None)
        if not self._left:
            with contextlib.suppress(RuntimeError):  # it was released just before
                self._pending.release()

    @property
    def is_pending(self) -> bool:
        return self._left > 0

    def wait(self, timeout_s: float) -> bool:
        """For the one caller, once."""
        return self._pending.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))

    def end(self) -> list[Outcome]:
        """Of those that are resolved, which after the wait are all. The entries, each of which
        knows its batch, are let go: a circle for each message would keep the garbage collector
        busy, and a full run of that stops all threads for 20 ms and more."""
        self.entries = []
        return [outcome for outcome in self._outcomes if outcome is not None]


class Entry:
    """One message of a batch. ``abandoned``: its caller waits no longer."""

    __slots__ = ("abandoned", "batch", "index", "message", "returned", "sent")

    def __init__(self, message: Outgoing, batch: Batch, index: int) -> None:
        self.message = message
        self.batch = batch
        self.index = index
        self.returned: str | None = None
        self.sent = False
        self.abandoned = False

    def confirmed(self) -> None:
        """The broker acknowledged, which it also does for what it has just returned."""
        if self.returned is None:
            message = self.message
            receipt = Receipt(str(message.message_id), message.exchange, message.routing_key)
            self.batch.resolve(self.index, receipt)
        else:
            text = f"{self.message}: no queue takes it ({self.returned}); bind a queue to that key"
            self.batch.resolve(self.index, Unroutable(text, message_id=self.message.message_id))

    def refused(self, reason: str) -> None:
        text = f"{self.message}: refused: {reason}"
        self.batch.resolve(self.index, PublishRefused(text, message_id=self.message.message_id))

    def unconfirmed(self, reason: str, cause: BaseException | None = None) -> None:
        self.batch.resolve(self.index, self.error(reason, cause))

    def error(self, reason: str, cause: BaseException | None) -> NotConfirmed:
        error = NotConfirmed(
            f"{self.message}: not confirmed: {reason}",
            sent=self.sent,
            message_id=self.message.message_id,
        )
        error.__cause__ = cause
        return error


class Ledger:
    """What was sent on one channel and not confirmed, by delivery tag."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._next_tag = 1
        self._bytes = 0
        self._returned: dict[tuple[str | None, str | None, str | None], list[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= MAX_IN_FLIGHT or self._bytes >= MAX_IN_FLIGHT_BYTES

    @property
    def is_full_of_abandoned(self) -> bool:
        """Nobody waits for any of them, and they are in everybody's way."""
        return self.is_full and all(entry.abandoned for entry in self._entries.values())

    def record(self, entry: Entry) -> None:
        """``entry`` is about to be sent: the broker counts the messages of a channel from 1."""
        entry.sent = True
        self._entries[self._next_tag] = entry
        self._next_tag += 1
        self._bytes += len(entry.message.body)

    def settle(self, confirm: Confirm) -> list[Entry]:
        """The entries that a confirm speaks of; tags only ever grow, so they stand in order. None
        where nobody waits for its tag: then the broker does not count as we do."""
        if not confirm.multiple:
            tags = [confirm.delivery_tag] if confirm.delivery_tag in self._entries else []
        else:
            tags = self._up_to(confirm.delivery_tag or self._next_tag - 1)
        entries = [self._entries.pop(tag) for tag in tags]
        for entry in entries:
            self._bytes -= len(entry.message.body)
            if self._returned:
                self._mark_if_returned(entry)
        return entries

    def _up_to(self, last: int) -> list[int]:
        if last >= self._next_tag:
            return []
        tags = []
        for tag in self._entries:
            if tag > last:
                break
            tags.append(tag)
        return tags

    def returned(
        self, message_id: str | None, exchange: str | None, routing_key: str | None, why: str
    ) -> None:
        """``basic.return`` has no delivery tag. It comes before the confirm of its message, so of
        several that look alike it is the first to be confirmed."""
        self._returned.setdefault((message_id, exchange, routing_key), []).append(why)

    def _mark_if_returned(self, entry: Entry) -> None:
        message = entry.message
        looks = message.message_id, message.exchange, message.routing_key
        reasons = self._returned.get(looks)
        if reasons:
            entry.returned = reasons.pop(0)
            if not reasons:
                del self._returned[looks]

    def drain(self) -> list[Entry]:
        """All that is left, when the channel is gone."""
        entries = list(self._entries.values())
        self._entries.clear()
        self._returned.clear()
        self._next_tag = 1
        self._bytes = 0
        return entries


def blamed(entries: Sequence[Entry], text: str) -> Collection[Entry]:
    """Those of a channel's unconfirmed messages that made the broker close it, by its words."""
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

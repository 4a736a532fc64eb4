"""Where one consumer is in a stream, over all of its connections.

Its position is the last message such that it, and all that were delivered before it, are done:
handled, or given up. A connection that follows another one goes on behind it, whatever ``offset``
the file has: nothing is skipped that was published in the meantime, and only what was not done, or
what was done above the position by one of several workers at the time of a restart, is read again.

What if the power fails here?

===================================  ============================================================
before the handler's transaction is  the message comes again; nothing of its effect is there
committed
after that, before the               ``stored``: the position was committed with it, the message
acknowledgement                      is not delivered again. Otherwise the consumer begins where
                                     its ``offset`` says
after the acknowledgement            the same: an acknowledgement to a stream moves no position
===================================  ============================================================

An offset is of one stream: where it was deleted and declared again, the numbers begin anew, and the
broker would silently keep back all below the position. So the message at the position is looked at
first. Where another one stands there, or none, while the stream has others, it begins at the first
of the new stream, and says so. An empty stream is no evidence: the consumer waits for a message.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.consuming.stream_seeking import end_of, first_from
from attune_mq.errors import ConsumeError
from attune_mq.message.delivery import Delivery
from attune_mq.message.stream_positions import (
    OFFSET_HEADER,
    PositionStore,
    StreamDelivery,
    StreamPosition,
)
from attune_mq.topology.contracts import NEXT, STORED, stream_offset_argument
from attune_mq.topology.model import Topology

logger = logging.getLogger(__name__)

FIRST = "first"
STORE_EVERY_S = 1.0
"""How far a stored position may lag behind messages whose handlers did not store it."""


class StreamReading:
    """``consumer``: its key in the file. ``store``: for ``offset: stored``, and only then.

    :meth:`begin` and :meth:`delivered` are for the thread of the connection, the others for workers
    as well.
    """

    def __init__(
        self,
        stream: str,
        consumer: str,
        offset: int | str | None,
        store: PositionStore | None,
        runtime: Runtime = SYSTEM,
    ) -> None:
        if offset == STORED and store is None:
            raise ConsumeError(
                f"consumer '{consumer}' has `offset: stored`: expected where its positions are "
                f"stored, such as positions=attune_mq.transactional.StreamPositions(…), got nothing"
            )
        self.consumer = consumer
        self._stream = stream
        self._offset = offset
        self._store = store if offset == STORED else None
        self._runtime = runtime
        self._lock = runtime.lock()
        self._generation = 0
        self._position: StreamPosition | None = None
        self._first: StreamPosition | None = None  # the first that was delivered to us
        self._waiting: dict[int, StreamPosition] = {}  # delivered and not done, in their order
        self._done: set[int] = set()  # above the position
        self._failures: dict[int, int] = {}
        self._has_begun = False
        self._expected: int | None = None
        self._stored: StreamPosition | None = None
        self._stored_at_s = self._runtime.monotonic()

    def delivery(self, *what: Any) -> StreamDelivery:
        """As :class:`StreamDelivery` is made of what a reader of frames finds."""
        return StreamDelivery(self.consumer, self.failures, self._generation, *what)

    def begin(self, connection: Connection) -> dict[str, Any]:
        """The arguments of the next subscription: where it begins. Takes seconds where nothing is
        delivered. Raises :class:`~attune_mq.errors.ConsumeError` for an empty stream that was not,
        and what the store raises."""
        if self._store is not None:
            self.store()
            self._take_stored(self._store.read(self._stream, self.consumer))
        with self._lock:
            self._waiting.clear()
            behind = -1 if self._position is None else self._position.offset
            self._done = {offset for offset in self._done if offset > behind}
        self._expected = None
        argument = self._argument(connection)
        self._has_begun = True
        return {OFFSET_HEADER: argument}

    def delivered(self, deliveries: Sequence[Delivery]) -> tuple[list[StreamDelivery], set[int]]:
        """Those that are to be handled, and the delivery tags of those that were."""
        coming = [one for one in deliveries if isinstance(one, StreamDelivery)]
        new = [one for one in coming if self._is_new(one)]
        return new, {one.delivery_tag for one in coming}.difference(one.delivery_tag for one in new)

    def _is_new(self, delivery: StreamDelivery) -> bool:
        position = delivery.position
        self._look_for_a_gap(position.offset)
        with self._lock:
            self._first = self._first or position
            if self._is_behind_us(position.offset):
                return False
            self._waiting[position.offset] = position
            self._advance()
            return position.offset in self._waiting and position.offset not in self._done

    def is_done(self, delivery: StreamDelivery) -> bool:
        """Perhaps it came by an earlier connection, and was done when that was lost; or its stream
        is gone."""
        offset = delivery.position.offset
        with self._lock:
            if delivery.generation != self._generation:
                return True
            return self._is_behind_us(offset) or offset in self._done

    def done(self, delivery: StreamDelivery) -> None:
        """It was handled, or given up: the position may move beyond it."""
        offset = delivery.position.offset
        with self._lock:
            self._failures.pop(offset, None)
            if delivery.generation == self._generation and not self._is_behind_us(offset):
                self._done.add(offset)
                self._advance()
        if self._runtime.monotonic() - self._stored_at_s > STORE_EVERY_S:
            self._store_if_possible()

    def failures(self, offset: int) -> int:
        """How often the message at this offset failed."""
        return self._failures.get(offset, 0)

    def failed(self, delivery: StreamDelivery, failures: int) -> None:
        self._failures[delivery.position.offset] = failures

    def end(self) -> None:
        """Of the consumer. What cannot be stored now is handled, or given up, again."""
        self._store_if_possible()
        unread = len(self._waiting.keys() - self._done)
        if unread and self._offset in (None, "last", NEXT):
            logger.warning(
                "Consumer '%s' leaves %d messages of stream '%s' that were not handled: its next "
                "start begins at '%s', and never reads them",
                self.consumer,
                unread,
                self._stream,
                self._offset or NEXT,
            )

    def store(self) -> None:
        """Stores the position of messages whose handlers did not. Raises what the store raises."""
        self._stored_at_s = self._runtime.monotonic()
        position = self._position
        if self._store is not None and position is not None and position != self._stored:
            self._store.store(self._stream, self.consumer, position)
            self._stored = position

    def _take_stored(self, stored: StreamPosition | None) -> None:
        with self._lock:
            self._generation = 0 if stored is None else stored.generation
            self._stored = None if stored is None or stored.is_beginning else stored
            self._position = self._stored

    def _store_if_possible(self) -> None:
        try:
            self.store()
        except Exception as error:
            logger.warning(
                "The position of consumer '%s' in stream '%s' is not stored yet: %s",
                self.consumer,
                self._stream,
                error,
            )

    def _argument(self, connection: Connection) -> int | str | datetime:
        if self._position is not None:
            if self._is_still_there(connection, self._position):
                return self._position.offset + 1
            self._begin_anew(self._position)
            return FIRST
        if self._first is not None:
            if self._is_still_there(connection, self._first):
                return self._first.offset
            self._begin_anew(self._first)
            return FIRST
        return self._argument_of_file(connection)

    def _argument_of_file(self, connection: Connection) -> int | str | datetime:
        """As long as nothing was delivered."""
        match self._offset:
            case None | "next" | "last" if self._has_begun:  # to a stream that was empty then
                return FIRST
            case None | "next":
                self._warn_of_next()
                self._position = end_of(connection, self._stream, self._runtime)
                return NEXT
            case "stored":
                return FIRST
            case offset:
                self._expected = offset if isinstance(offset, int) else None
                return stream_offset_argument(offset)

    def _warn_of_next(self) -> None:
        if self._offset is None:
            logger.warning(
                "Consumer '%s' begins in stream '%s' at the next message, for want of an `offset` "
                "in the file: what was published before, also while disconnected, is never read",
                self.consumer,
                self._stream,
            )

    def _is_still_there(self, connection: Connection, position: StreamPosition) -> bool:
        """Or was once, in a stream that begins above it by now."""
        found = first_from(connection, self._stream, position.offset)
        if found is not None and found.offset > position.offset:
            self._expected = position.offset + 1
            return True
        if found is not None:
            return position.fingerprint in ("", found.fingerprint)
        if first_from(connection, self._stream, FIRST) is None:
            raise ConsumeError(
                f"stream '{self._stream}' has no message, though number {position.offset} was read "
                f"before: it seems to have been declared anew; waiting for its first message"
            )
        return False

    def _begin_anew(self, position: StreamPosition) -> None:
        logger.error(
            "Stream '%s' was declared anew: the message at %d, where consumer '%s' was, is not "
            "in it. What was not read of the old one is lost. It goes on at the first message",
            self._stream,
            position.offset,
            self.consumer,
        )
        beginning = position.next_generation()
        if self._store is not None:
            self._store.store(self._stream, self.consumer, beginning)
        with self._lock:
            self._generation = beginning.generation
            self._position = self._first = self._stored = None
            self._done.clear()
            self._failures.clear()

    def _look_for_a_gap(self, offset: int) -> None:
        """Where the position itself is gone, the first delivery tells what else is."""
        expected, self._expected = self._expected, None
        if expected is not None and offset > expected:
            # The broker gives numbers to notes of its own, too: one at least in each segment.
            logger.error(
                "Consumer '%s' lost up to %d messages of stream '%s': those from %d to %d are no "
                "longer in it, by its retention",
                self.consumer,
                offset - expected,
                self._stream,
                expected,
                offset - 1,
            )

    def _is_behind_us(self, offset: int) -> bool:
        return self._position is not None and offset <= self._position.offset

    def _advance(self) -> None:
        """Over what is done, in the order of delivery."""
        while self._waiting and (oldest := next(iter(self._waiting))) in self._done:
            self._position = self._waiting.pop(oldest)
            self._done.discard(oldest)


def reading_of(
    topology: Topology,
    tag: str,
    positions: PositionStore | None,
    concurrency: int,
    runtime: Runtime = SYSTEM,
) -> StreamReading | None:
    """Of a consumer of the file; ``None`` where its queue is no stream. Raises
    :class:`~attune_mq.errors.ConsumeError` for a position that several handlers would share."""
    spec = topology.consumer(tag)
    queue = topology.queues[spec.queue]
    if queue.type != "stream":
        return None
    if spec.offset == STORED and concurrency > 1:
        raise ConsumeError(
            f"consumer '{tag}' has `offset: stored`: expected a concurrency of 1, since one "
            f"position holds for messages in their order, got {concurrency}"
        )
    return StreamReading(queue.name, tag, spec.offset, positions, runtime)

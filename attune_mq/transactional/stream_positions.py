"""The position of a consumer in a stream, stored in the transaction of the effect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Executable, Table, bindparam, select, tuple_

from attune_mq.errors import ConsumeError
from attune_mq.message.delivery import Message
from attune_mq.message.stream_positions import StreamDelivery, StreamPosition
from attune_mq.transactional.engine import insert_into, reading
from attune_mq.transactional.schema import to_us, utc_now
from attune_mq.transactional.transactions import Prepared, run_in_transaction_with_retry

_KEY = ("scope", "stream", "consumer")


class StreamPositions:
    """Stores the positions of consumers with ``offset: stored`` in the service's own database.

    ::

        positions = StreamPositions(define_stream_positions(metadata), engine)
        service = Service("billing", positions=positions)

        @service.on(OrderPlaced)
        def bill(message: Message[OrderPlaced]) -> None:
            with engine.begin() as tx:
                if not positions.advance(tx, message):
                    return                              # handled before
                ...                                     # the effect, in the same transaction

    The position is committed with the effect, or neither is. A consumer that starts continues
    behind the stored position, so wherever its process ended, each message has its effect exactly
    once in that database. Without a stored position it starts at the first message of the stream.

    Without :meth:`advance` in its transaction an effect happens at least once: the consumer itself
    stores its position, every second and when it stops; so it does for messages without effect,
    which it skips after their last attempt.

    Lost are messages that the retention of the stream drops before they are read; the log says how
    many at most. Handled twice are messages that were published twice.

    ``scope`` separates virtual hosts, or brokers, of services that share a table. Instances of one
    consumer share a position: each of them reads the stream, and the database lets one have the
    effect, as the second to advance waits for the first.
    """

    def __init__(
        self,
        table: Table,
        engine: Engine,
        *,
        scope: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._table = table
        self._engine = engine
        self._scope = scope
        self._now = now
        self._advance = Prepared(self._advancing)
        self._place = Prepared(self._placing)
        self._read = select(table).where(
            table.c.scope == scope,
            table.c.stream == bindparam("of_stream"),
            table.c.consumer == bindparam("of_consumer"),
        )

    def advance(self, tx: Connection, message: Message[Any]) -> bool:
        """Moves the position to the message; ``False`` when it is there or beyond: the effect of
        the message is committed, skip it.

        Raises :class:`~attune_mq.errors.ConsumeError` for a message that is of no stream.
        """
        delivery = message.delivery
        if not isinstance(delivery, StreamDelivery):
            raise ConsumeError(f"expected a message of a stream, got one of '{delivery.queue}'")
        return self._move(tx, delivery.queue, delivery.consumer, delivery.position)

    def place(self, tx: Connection, stream: str, consumer: str, offset: int) -> None:
        """Sets the position to ``offset``, forward or back, for consumers that start after the
        commit: to skip a poison message, or to handle messages again. -1: before the first."""
        self._place.execute(tx, **self._row(stream, consumer, StreamPosition(offset, "")))

    def read(self, stream: str, consumer: str) -> StreamPosition | None:
        """The stored position. Raises :class:`~attune_mq.errors.DatabaseUnavailable` as
        :func:`run_in_transaction_with_retry` does, like :meth:`store`."""

        def stored() -> StreamPosition | None:
            with reading(self._engine) as tx:
                values = {"of_stream": stream, "of_consumer": consumer}
                row = tx.execute(self._read, values).first()
            if row is None:
                return None
            return StreamPosition(row.message_offset, row.fingerprint, row.generation)

        return run_in_transaction_with_retry(stored)

    def store(self, stream: str, consumer: str, position: StreamPosition) -> None:
        """Moves the position there in a transaction of its own, never back."""

        def store() -> None:
            with self._engine.begin() as tx:
                self._move(tx, stream, consumer, position)

        run_in_transaction_with_retry(store)

    def _move(self, tx: Connection, stream: str, consumer: str, position: StreamPosition) -> bool:
        moved = self._advance.execute(tx, **self._row(stream, consumer, position))
        return moved.first() is not None

    def _row(self, stream: str, consumer: str, position: StreamPosition) -> dict[str, Any]:
        return {
            "scope": self._scope,
            "stream": stream,
            "consumer": consumer,
            "generation": position.generation,
            "message_offset": position.offset,
            "fingerprint": position.fingerprint,
            "advanced_at_us": to_us(self._now()),
        }

    def _advancing(self, tx: Connection) -> Executable:
        insert = insert_into(tx, self._table)
        stored, new = self._table.c, insert.excluded
        is_behind = tuple_(stored.generation, stored.message_offset) < tuple_(
            new.generation, new.message_offset
        )
        return insert.on_conflict_do_update(
            index_elements=_KEY,
            set_={one.name: one for one in new if one.name not in _KEY},
            where=is_behind,
        ).returning(stored.message_offset)

    def _placing(self, tx: Connection) -> Executable:
        insert = insert_into(tx, self._table)
        return insert.on_conflict_do_update(
            index_elements=_KEY,
            set_={
                "generation": self._table.c.generation + 1,
                "message_offset": insert.excluded.message_offset,
                "fingerprint": "",
                "advanced_at_us": insert.excluded.advanced_at_us,
            },
        )

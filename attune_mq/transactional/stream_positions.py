"""Where a consumer is in a stream, kept in the transaction of the effect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Executable,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    and_,
    bindparam,
    or_,
    select,
)

from attune_mq.errors import ConsumeError
from attune_mq.message.delivery import Message
from attune_mq.message.stream_positions import StreamDelivery, StreamPosition
from attune_mq.transactional.engine import insert_into, reading
from attune_mq.transactional.persisting import persist
from attune_mq.transactional.schema import to_us, utc_now
from attune_mq.transactional.statements import Prepared


def define_stream_positions(metadata: MetaData, prefix: str = "attune_") -> Table:
    """Define ``<prefix>stream_positions`` on ``metadata``; creates nothing. As
    :func:`~attune_mq.transactional.define_tables`, beside which it can be used or not."""
    name = f"{prefix}stream_positions"
    return Table(
        name,
        metadata,
        Column("scope", Text, nullable=False),
        Column("stream", Text, nullable=False),
        Column("consumer", Text, nullable=False),
        Column("generation", BigInteger, nullable=False),
        Column("message_offset", BigInteger, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("advanced_at_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("scope", "stream", "consumer", name=f"{name}_pkey"),
    )


class StreamPositions:
    """Keeps the positions of consumers with ``offset: stored`` in the service's own database.

    ::

        positions = StreamPositions(define_stream_positions(metadata), engine)
        service = Service("billing", positions=positions)

        @service.on(OrderPlaced)
        def bill(message: Message[OrderPlaced]) -> None:
            with engine.begin() as tx:
                if not positions.advance(tx, message):
                    return                              # handled before
                ...                                     # the effect, in the same transaction

    The position is committed with the effect, or neither is. A consumer that starts goes on behind
    the stored position, so wherever its process ended, each message has its effect exactly once in
    that database. Where nothing is stored it begins at the first message that the stream has.

    Without :meth:`advance` in its transaction an effect happens at least once: the consumer stores
    how far it came by itself, a second later at most, or when it stops. It does so, too, for what
    has no effect: messages that it passes over after their last attempt.

    What is lost: messages that the retention of the stream drops before they are read; the log says
    how many at most. What is done twice: what somebody publishes twice.

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
        self._read = Prepared(self._reading)

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
        """Puts the position at ``offset``, forward or back, for consumers that begin after the
        commit: to pass over a message that ends its process, or to handle messages again. With -1
        they begin at the first."""
        self._place.execute(
            tx,
            scope=self._scope,
            stream=stream,
            consumer=consumer,
            generation=0,
            message_offset=offset,
            fingerprint="",
            advanced_at_us=to_us(self._now()),
        )

    def read(self, stream: str, consumer: str) -> StreamPosition | None:
        """The stored position. Raises :class:`~attune_mq.errors.DatabaseUnavailable` as
        :func:`persist` does, as the following do."""

        def stored() -> StreamPosition | None:
            with reading(self._engine) as tx:
                row = self._read.execute(
                    tx, of_scope=self._scope, of_stream=stream, of_consumer=consumer
                ).first()
            if row is None:
                return None
            return StreamPosition(row.message_offset, row.fingerprint, row.generation)

        return persist(stored)

    def store(self, stream: str, consumer: str, position: StreamPosition) -> None:
        """Moves the position there in a transaction of its own, never back."""

        def store() -> None:
            with self._engine.begin() as tx:
                self._move(tx, stream, consumer, position)

        persist(store)

    def _move(self, tx: Connection, stream: str, consumer: str, position: StreamPosition) -> bool:
        moved = self._advance.execute(
            tx,
            scope=self._scope,
            stream=stream,
            consumer=consumer,
            generation=position.generation,
            message_offset=position.offset,
            fingerprint=position.fingerprint,
            advanced_at_us=to_us(self._now()),
        )
        return moved.first() is not None

    def _advancing(self, tx: Connection) -> Executable:
        insert = insert_into(tx, self._table)
        stored, new = self._table.c, insert.excluded
        return insert.on_conflict_do_update(
            index_elements=["scope", "stream", "consumer"],
            set_={
                "generation": new.generation,
                "message_offset": new.message_offset,
                "fingerprint": new.fingerprint,
                "advanced_at_us": new.advanced_at_us,
            },
            where=or_(
                stored.generation < new.generation,
                and_(
                    stored.generation == new.generation,
                    stored.message_offset < new.message_offset,
                ),
            ),
        ).returning(self._table.c.message_offset)

    def _placing(self, tx: Connection) -> Executable:
        insert = insert_into(tx, self._table)
        return insert.on_conflict_do_update(
            index_elements=["scope", "stream", "consumer"],
            set_={
                "generation": self._table.c.generation + 1,
                "message_offset": insert.excluded.message_offset,
                "fingerprint": "",
                "advanced_at_us": insert.excluded.advanced_at_us,
            },
        )

    def _reading(self, _: Connection) -> Executable:
        stored = self._table.c
        return select(self._table).where(
            stored.scope == bindparam("of_scope"),
            stored.stream == bindparam("of_stream"),
            stored.consumer == bindparam("of_consumer"),
        )

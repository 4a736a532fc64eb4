"""The inbox: each message has its effect once, however often it is delivered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Table, delete, func, select

from attune_mq.transactional.engine import insert_into
from attune_mq.transactional.schema import to_us, utc_now
from attune_mq.transactional.transactions import Prepared


class Inbox:
    """Records, in the transaction of a message's effect, which messages were accepted.

    ::

        with engine.begin() as tx:
            if inbox.accept(tx, envelope.message_id, consumer="executor.enforcement"):
                ...                     # the effect, and its messages, in the same transaction
        # commit, then acknowledge

    The database decides: of two transactions that accept one id at the same time the second waits
    for the first, and is refused if that one commits, accepted if it rolls back.

    Lost is an effect outside of this transaction, when the process dies between the two. Handled
    twice is a message that is delivered again after its id was deleted (:meth:`forget_before`), or
    that was published again under another id.

    ``scope`` separates components which share a table and each act on the same message: every
    scope accepts an id once. Components that compete for the messages of one queue share a scope.
    """

    def __init__(
        self, table: Table, *, scope: str = "", now: Callable[[], datetime] = utc_now
    ) -> None:
        self._table = table
        self._scope = scope
        self._now = now
        self._accept = Prepared(
            # Not "rowcount": not every driver still knows it after an INSERT.
            lambda tx: insert_into(tx, table).on_conflict_do_nothing().returning(table.c.message_id)
        )

    def accept(
        self,
        tx: Connection,
        message_id: str,
        *,
        consumer: str,
        message_type: str | None = None,
    ) -> bool:
        """Records the message; ``False`` when its id was accepted before: skip and acknowledge it.

        ``consumer`` is the tag of the consumer, stored for monitoring.
        """
        accepted = self._accept.execute(
            tx,
            scope=self._scope,
            message_id=message_id,
            consumer=consumer,
            message_type=message_type,
            accepted_at_us=to_us(self._now()),
        )
        return accepted.first() is not None

    def forget_before(self, tx: Connection, cutoff: datetime, *, limit: int = 10_000) -> int:
        """Deletes ids accepted before ``cutoff``, at most ``limit``; returns how many.

        ``limit`` keeps the transaction short; call again while it is reached. Keep ids for longer
        than a message can be redelivered: the longest retry, and the days until the dead letter
        queue is replayed.
        """
        inbox = self._table.c
        oldest = (
            select(inbox.message_id)
            .where(inbox.scope == self._scope, inbox.accepted_at_us < to_us(cutoff))
            .order_by(inbox.accepted_at_us)
            .limit(limit)
        )
        forget = delete(self._table).where(
            inbox.scope == self._scope, inbox.message_id.in_(oldest.scalar_subquery())
        )
        return tx.execute(forget).rowcount

    def counts_by_consumer(self, tx: Connection) -> dict[str, int]:
        """How many of the recorded messages of this scope each consumer accepted."""
        inbox = self._table.c
        counts = (
            select(inbox.consumer, func.count().label("taken"))
            .where(inbox.scope == self._scope)
            .group_by(inbox.consumer)
        )
        return {row.consumer: row.taken for row in tx.execute(counts)}

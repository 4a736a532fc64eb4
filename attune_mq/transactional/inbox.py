"""The inbox: a message has its effect once, however often it is delivered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Executable, Table, delete, func, select

from attune_mq.transactional.engine import insert_into
from attune_mq.transactional.schema import to_us, utc_now
from attune_mq.transactional.statements import Prepared


class Inbox:
    """Remembers, inside the transaction that holds a message's effect, which messages were taken.

    ::

        with engine.begin() as tx:
            if inbox.accept(tx, envelope.message_id, consumer="executor.enforcement"):
                ...                     # the effect, and what it publishes, in the same transaction
        # commit, then acknowledge

    The database decides: of two transactions that accept one id at the same time the second waits
    for the first, and is refused if that one commits, accepted if it rolls back.

    What is lost: the message whose effect is not in this transaction, when the process dies
    between the two. What is done twice: the message that comes back after its id was forgotten
    (:meth:`forget_before`), or that was published again under another id.

    ``scope`` separates components which share a table and each act on the same message: every
    scope accepts an id once. Components that compete for the messages of one queue share a scope,
    as what one of them took shall not be taken by another.
    """

    def __init__(
        self, table: Table, *, scope: str = "", now: Callable[[], datetime] = utc_now
    ) -> None:
        self._table = table
        self._scope = scope
        self._now = now
        self._take = Prepared(self._taking)

    def accept(
        self,
        tx: Connection,
        message_id: str,
        *,
        consumer: str,
        message_type: str | None = None,
    ) -> bool:
        """Take the message in; ``False`` when its id was taken before: skip it, acknowledge it.

        ``consumer`` is the tag of the consumer that took it, kept for those who watch.
        """
        taken = self._take.execute(
            tx,
            scope=self._scope,
            message_id=message_id,
            consumer=consumer,
            message_type=message_type,
            accepted_at_us=to_us(self._now()),
        )
        return taken.first() is not None

    def forget_before(self, tx: Connection, cutoff: datetime, *, limit: int = 10_000) -> int:
        """Forget what was accepted before ``cutoff``, at most ``limit`` ids; says how many.

        ``limit`` keeps the transaction short; call again while it is reached. Keep ids for longer
        than a message can come back: the longest retry, and the days until someone replays the
        dead letter queue.
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
        """How many messages each consumer took, of those that are remembered in this scope."""
        inbox = self._table.c
        counts = (
            select(inbox.consumer, func.count().label("taken"))
            .where(inbox.scope == self._scope)
            .group_by(inbox.consumer)
        )
        return {row.consumer: row.taken for row in tx.execute(counts)}

    def _taking(self, tx: Connection) -> Executable:
        # Not "rowcount": not every driver still knows it after an INSERT.
        insert = insert_into(tx, self._table).on_conflict_do_nothing()
        return insert.returning(self._table.c.message_id)

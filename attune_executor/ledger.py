"""One message, all of it in one transaction: its effect, that it was taken, what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection, Engine

from attune_executor.tables import messages
from attune_mq import Envelope, Message, Payload, Reject, Route
from attune_mq.transactional import (
    Backlog,
    DatabaseWatch,
    GroupCommit,
    Inbox,
    Outbox,
    OutboxRelay,
    SupportsPublish,
    reading,
    utc_now,
)

P = TypeVar("P", bound=Payload)

LEASE_S = 15.0
"""After a crash, what the dead executor had claimed to publish waits so long for another."""


class Ledger:
    """The database as the components use it.

    :meth:`once` is all that a handler does: whatever crashes, either nothing of it is in the
    database and the broker delivers the message again, or all of it is and the relay publishes
    what is in the outbox.
    """

    def __init__(
        self,
        engine: Engine,
        publisher: SupportsPublish,
        *,
        service: str,
        headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        """``headers``: of AMQP, for each message that is said, at the moment when it is."""
        self._engine = engine
        self._service = service
        self._group = GroupCommit(engine)
        self._inbox = Inbox(messages.inbox)
        self._outbox = Outbox(messages.outbox, source_service=service, headers=headers)
        self.relay = OutboxRelay(engine, self._outbox, publisher, lease_s=LEASE_S)
        self.watch = DatabaseWatch(engine, [messages.inbox, messages.outbox])

    def once(
        self, message: Message[P], effect: Callable[[Entry], None], *, dead: bool = False
    ) -> None:
        """Has the effect of a message that was not taken before, by this executor or another.

        ``dead``: whether it is one that died in another queue. Such a one is for people, but where
        a handler is meant for it; raises :class:`~attune_mq.Reject` where it is not as said.
        """
        if message.is_dead_letter != dead:
            said = "it died in another queue" if message.is_dead_letter else "it did not die"
            raise Reject(f"{said}, and no component of the executor takes it so")

        def work(tx: Connection) -> None:
            taken = self._inbox.accept(
                tx,
                message.message_id,
                consumer=message.consumer_tag,
                message_type=message.envelope.message_type,
            )
            if taken:
                effect(Entry(tx, self._outbox, self._service, message.envelope))

        self._commit(work)

    def decide(self, effect: Callable[[Entry], bool]) -> bool:
        """Has an effect that no message asked for, in a transaction as :meth:`once` has it.

        Returns what ``effect`` returned, once that is committed.
        """
        decided = False

        def work(tx: Connection) -> None:
            nonlocal decided
            decided = effect(Entry(tx, self._outbox, self._service))

        self._commit(work)
        return decided

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads."""
        return reading(self._engine)

    def _commit(self, work: Callable[[Connection], None]) -> None:
        self._group.commit(work)
        self.watch.worked()
        self.relay.wake()

    @property
    def trouble(self) -> str | None:
        """Why the database does not work, or ``None``: at once, from memory."""
        return self.watch.trouble

    def backlog(self) -> Backlog:
        """What the outbox owes. Asked once: a database that is away raises."""
        with self.reading() as tx:
            return self._outbox.backlog(tx)

    def forget(self, keep: timedelta) -> None:
        """The ids of messages that were taken longer ago than ``keep``, a batch a transaction."""
        batch = 10_000
        forgotten = batch
        while forgotten == batch:
            with self._engine.begin() as tx:
                forgotten = self._inbox.forget_before(tx, utc_now() - keep, limit=batch)


class Entry:
    """The transaction of one message: ``tx`` for its effect, :meth:`say` for what follows."""

    def __init__(
        self, tx: Connection, outbox: Outbox, service: str, envelope: Envelope | None = None
    ) -> None:
        self.tx = tx
        self._service = service
        self.now = utc_now()
        self._outbox = outbox
        self._envelope = envelope

    def say(
        self,
        payload: Payload,
        *,
        route: Route | None = None,
        not_before: datetime | None = None,
        message_id: str | None = None,
    ) -> None:
        """Publishes once the transaction is committed, in the conversation of the message that is
        handled, or in one of its own where there is none."""
        cause = self._envelope
        envelope = Envelope.of(
            payload,
            source_service=self._service,
            correlation_id=None if cause is None else cause.correlation_id,
            trace_id=None if cause is None else cause.headers.trace_id,
            message_id=message_id,
        )
        self._outbox.add_envelope(self.tx, envelope, route=route, not_before=not_before)

"""The effect of a message, its row in the inbox and its messages, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection, Engine

from attune_executor.tables import messages
from attune_mq import Envelope, Message, Payload, Reject, Route, transactional

P = TypeVar("P", bound=Payload)

LEASE_S = 15.0
"""After it another executor publishes what one claimed whose host died: the death of a process
alone is detected sooner."""


class Transactions:
    """Runs the transactions of the components, with inbox and outbox."""

    def __init__(
        self,
        engine: Engine,
        publisher: transactional.SupportsPublish,
        *,
        service: str,
        headers: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        """``headers``: called for the AMQP headers of each message that is added."""
        self._engine = engine
        self._service = service
        self._group = transactional.GroupCommit(engine)
        self._inbox = transactional.Inbox(messages.inbox)
        self._outbox = transactional.Outbox(
            messages.outbox, source_service=service, headers=headers
        )
        self.relay = transactional.OutboxRelay(engine, self._outbox, publisher, lease_s=LEASE_S)
        self.watch = transactional.DatabaseWatch(engine, [messages.inbox, messages.outbox])

    def once(
        self, message: Message[P], effect: Callable[[UnitOfWork], None], *, dead: bool = False
    ) -> None:
        """Commits the effect of a message that no executor has handled before.

        After a crash either nothing of it is in the database and the broker delivers the message
        again, or all of it is and the relay publishes the outbox.

        ``dead``: whether a dead letter is expected. Raises :class:`~attune_mq.Reject` otherwise.
        """
        if message.is_dead_letter != dead:
            found = "a dead letter" if message.is_dead_letter else "no dead letter"
            raise Reject(f"it is {found}, which no component of the executor expects here")

        def work(tx: Connection) -> None:
            accepted = self._inbox.accept(
                tx,
                message.message_id,
                consumer=message.consumer_tag,
                message_type=message.envelope.message_type,
            )
            if accepted:
                effect(UnitOfWork(tx, self._outbox, self._service, message.envelope))

        self._commit(work)

    def decide(self, effect: Callable[[UnitOfWork], bool]) -> bool:
        """Commits an effect that no message asked for, and returns what ``effect`` returned."""
        decided = False

        def work(tx: Connection) -> None:
            nonlocal decided
            decided = effect(UnitOfWork(tx, self._outbox, self._service))

        self._commit(work)
        return decided

    def _commit(self, work: Callable[[Connection], None]) -> None:
        self._group.commit(work)
        self.watch.worked()
        self.relay.wake()

    def reading(self) -> AbstractContextManager[Connection]:
        """A read-only transaction."""
        return transactional.reading(self._engine)

    def backlog(self) -> transactional.Backlog:
        """Of the outbox. Raises SQLAlchemy's error while the database is unavailable."""
        with self.reading() as tx:
            return self._outbox.backlog(tx)

    def failing(self) -> tuple[transactional.Failing, ...]:
        """Of the outbox, and why. Raises as :meth:`backlog` does."""
        with self.reading() as tx:
            return self._outbox.failing(tx)

    def forget(self, keep: timedelta) -> None:
        """Deletes ids of messages handled longer ago than ``keep``, a batch a transaction."""
        batch = 10_000
        forgotten = batch
        while forgotten == batch:
            with self._engine.begin() as tx:
                forgotten = self._inbox.forget_before(
                    tx, transactional.utc_now() - keep, limit=batch
                )


class UnitOfWork:
    """The transaction of one message: ``tx`` for its effect, and its messages."""

    def __init__(
        self,
        tx: Connection,
        outbox: transactional.Outbox,
        service: str,
        cause: Envelope | None = None,
    ) -> None:
        self.tx = tx
        self.now = transactional.utc_now()
        self._outbox = outbox
        self._service = service
        self._cause = cause

    def publish_after_commit(
        self,
        payload: Payload,
        *,
        route: Route | None = None,
        not_before: datetime | None = None,
        message_id: str | None = None,
    ) -> None:
        """With the correlation and trace ids of the message that is handled, if there is one."""
        cause = self._cause
        envelope = Envelope.of(
            payload,
            source_service=self._service,
            correlation_id=None if cause is None else cause.correlation_id,
            trace_id=None if cause is None else cause.headers.trace_id,
            message_id=message_id,
        )
        self._outbox.add_envelope(self.tx, envelope, route=route, not_before=not_before)

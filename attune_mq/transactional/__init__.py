"""Inbox and outbox: a database and RabbitMQ that agree (extra ``transactional``).

A service that keeps state needs both. With the inbox a message has its effect once, however often
it is delivered; with the outbox a message about an effect is published exactly when the effect is
committed. SQLAlchemy Core on SQLite or PostgreSQL; no ORM.

::

    metadata = MetaData()
    tables = define_tables(metadata)
    inbox, outbox = Inbox(tables.inbox), Outbox(tables.outbox)
    relay = OutboxRelay(engine, outbox, publisher)

    def handle(envelope):
        with engine.begin() as tx:
            if not inbox.accept(tx, envelope.message_id, consumer="billing"):
                return                              # seen before: acknowledge, do nothing
            ...                                     # the effect
            outbox.add(tx, InvoicePaid(...))
        relay.wake()

The message is acknowledged when ``handle`` returns, so after the commit. A crash anywhere leads
to a second delivery or a second publication, never to a lost one; the inbox drops what comes twice.
"""

from attune_mq.errors import DatabaseUnavailable
from attune_mq.transactional.batches import Relayed, SupportsPublish
from attune_mq.transactional.database_watch import DatabaseWatch
from attune_mq.transactional.engine import (
    create_database_engine,
    describe,
    insert_into,
    is_conflict,
    is_transient,
    reading,
)
from attune_mq.transactional.group_commit import GroupCommit
from attune_mq.transactional.inbox import Inbox
from attune_mq.transactional.outbox import (
    Backlog,
    ClaimedMessage,
    Failing,
    Failure,
    OutboundMessage,
    Outbox,
    SupportsRoute,
)
from attune_mq.transactional.persisting import persist
from attune_mq.transactional.relay import OutboxRelay
from attune_mq.transactional.schema import Tables, define_tables, from_us, to_us, utc_now
from attune_mq.transactional.statements import Prepared
from attune_mq.transactional.stream_positions import StreamPositions, define_stream_positions

__all__ = [
    "Backlog",
    "ClaimedMessage",
    "DatabaseUnavailable",
    "DatabaseWatch",
    "Failing",
    "Failure",
    "GroupCommit",
    "Inbox",
    "OutboundMessage",
    "Outbox",
    "OutboxRelay",
    "Prepared",
    "Relayed",
    "StreamPositions",
    "SupportsPublish",
    "SupportsRoute",
    "Tables",
    "create_database_engine",
    "define_stream_positions",
    "define_tables",
    "describe",
    "from_us",
    "insert_into",
    "is_conflict",
    "is_transient",
    "persist",
    "reading",
    "to_us",
    "utc_now",
]

"""Transactional inbox and outbox for a database and RabbitMQ (extra ``transactional``).

With the inbox each message has its effect once, however often it is delivered; with the outbox a
message about an effect is published exactly when the effect is committed. SQLAlchemy Core on SQLite
or PostgreSQL; no ORM.

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

The message is acknowledged when ``handle`` returns, so after the commit. A crash leads to a second
delivery or a second publication, never to a lost one; the inbox drops duplicates.
"""

from attune_mq.errors import DatabaseUnavailable as DatabaseUnavailable
from attune_mq.transactional.batches import Relayed as Relayed, SupportsPublish as SupportsPublish
from attune_mq.transactional.database_watch import DatabaseWatch as DatabaseWatch
from attune_mq.transactional.engine import (
    create_database_engine as create_database_engine,
    describe as describe,
    insert_into as insert_into,
    is_conflict as is_conflict,
    is_transient as is_transient,
    reading as reading,
)
from attune_mq.transactional.inbox import Inbox as Inbox
from attune_mq.transactional.outbox import (
    Backlog as Backlog,
    ClaimedMessage as ClaimedMessage,
    Failing as Failing,
    Failure as Failure,
    OutboundMessage as OutboundMessage,
    Outbox as Outbox,
    SupportsRoute as SupportsRoute,
)
from attune_mq.transactional.relay import OutboxRelay as OutboxRelay
from attune_mq.transactional.schema import (
    Tables as Tables,
    define_stream_positions as define_stream_positions,
    define_tables as define_tables,
    from_us as from_us,
    to_us as to_us,
    utc_now as utc_now,
)
from attune_mq.transactional.stream_positions import StreamPositions as StreamPositions
from attune_mq.transactional.transactions import (
    GroupCommit as GroupCommit,
    Prepared as Prepared,
    run_in_transaction_with_retry as run_in_transaction_with_retry,
)

"""Effects, one row each, in the transaction that takes the message in. Nothing in the table keeps
an effect from being there twice: that is for the inbox to do, and for the accounts to find."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    select,
)

from attune_mq.transactional import define_tables, reading

metadata = MetaData()
messages = define_tables(metadata)
effects = Table(
    "effects",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("process", Text, nullable=False),
)
Index("effects_kind_number", effects.c.kind, effects.c.number)


def have_effect(tx: Connection, kind: str, number: int, process: str) -> None:
    tx.execute(insert(effects).values(kind=kind, number=number, process=process))


def counted(engine: Engine, kind: str) -> Counter[int]:
    """How often each number had its effect."""
    by_number = (
        select(effects.c.number, func.count())
        .where(effects.c.kind == kind)
        .group_by(effects.c.number)
    )
    with reading(engine) as tx:
        return Counter({row[0]: row[1] for row in tx.execute(by_number)})


def progress(engine: Engine, kind: str) -> tuple[int, int]:
    """How many effects there are, and the highest number among them."""
    total = select(func.count(), func.max(effects.c.number)).where(effects.c.kind == kind)
    with reading(engine) as tx:
        count, highest = tx.execute(total).one()
    return count, highest or 0

"""The states of a row of the outbox, and the statements that move it from one to another.

======== ================================================ ====================================
state    ``available_at_us``                              told by
======== ================================================ ====================================
ready    0                                                nothing else
delayed  when it is due, as ``not_before`` said           no attempt, nobody's claim
claimed  the end of the lease                             ``claimed_by``
failed   the next attempt                                 ``attempts`` above 0, nobody's claim
======== ================================================ ====================================

So what is ready has no time that a clock could hide it behind, and leaves in the order of ``id``,
which the database counts up. The other three wait by the clock on the wall of whichever process
wrote the row, the only clock that several hosts, a database that has none (SQLite) and a moment
that a caller names have in common. It may be ahead, or be set back. Therefore no wait may end later
than it could if it began now: :func:`limiting` shortens those that do. Set forward, a clock ends
waits early: a failed row is tried sooner, and a claim may be taken over while it is published,
which repeats its messages under their ids.

The table is that of the versions before, and relays of both may run on it. Those gave each row the
moment of its adding as ``available_at_us``: here it counts as one that was delayed until then.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)

READY = 0
"""``available_at_us`` of a row that waits for nothing."""

Cause = Literal["unroutable", "refused", "unconfirmed", "other"]
"""Why a row was not published: its last error, as a word that a metric can carry."""

_CAUSES: dict[str, Cause] = {
    "Unroutable": "unroutable",
    "PublishRefused": "refused",
    "NotConfirmed": "unconfirmed",
}
_CLOCKS_DIFFER_US = 1_000_000
"""Clocks of several hosts do so, and nobody set them."""

To = Literal["any", "these", "others"]
"""To which destinations: ``these`` and ``others`` are told by the parameter ``destinations``."""


def destination(exchange: str | None, routing_key: str | None, message_type: str) -> str:
    """What rows have in common that fail together; without a route, the topology goes by type."""
    if exchange is None or routing_key is None:
        return message_type
    return f"{exchange} {routing_key}"


def claim_ready(table: Table, to: To) -> Update:
    return _claim(table, to, table.c.available_at_us == READY, table.c.id)


def claim_waiting(table: Table, to: To) -> Update:
    """Of those whose wait is over, whose was over first."""
    available = table.c.available_at_us
    is_over = and_(available > READY, available <= bindparam("now_us"))
    return _claim(table, to, is_over, available, table.c.id)


def _claim(
    table: Table, to: To, is_available: ColumnElement[bool], *order: ColumnElement[int]
) -> Update:
    due = (
        select(table.c.id)
        .where(is_available, *_goes(table, to))
        .order_by(*order)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
        # A plain subquery could be evaluated again for each row, and so exceed the limit.
        .cte("due")
    )
    return (
        update(table)
        .where(table.c.id.in_(select(due.c.id)), is_available)
        .values(available_at_us=bindparam("until_us"), claimed_by=bindparam("holder"))
        .returning(table)
    )


def _goes(table: Table, to: To) -> list[ColumnElement[bool]]:
    if to == "any":
        return []
    row = table.c
    route = row.exchange + " " + row.routing_key  # NULL where one of them is
    known = func.coalesce(route, row.message_type).in_(bindparam("destinations", expanding=True))
    return [known if to == "these" else ~known]


def deletion(table: Table) -> Executable:
    return delete(table).where(table.c.id.in_(bindparam("row_ids", expanding=True)))


def postponement(table: Table) -> Executable:
    return _held(table, table.c.id == bindparam("row_id")).values(
        attempts=table.c.attempts + 1,
        last_error=bindparam("error"),
        available_at_us=bindparam("at_us"),
        claimed_by=None,
    )


def release(table: Table) -> Executable:
    these = table.c.id.in_(bindparam("row_ids", expanding=True))
    return _set_free(_held(table, these), table)


def release_of(table: Table) -> Executable:
    """Of all claims of ``holders``, who are gone; not those that somebody else sets free now."""
    claims = table.c.claimed_by.in_(bindparam("holders", expanding=True))
    of_them = _locked(table).where(_waits(table), claims)
    return _set_free(update(table).where(table.c.id.in_(of_them), claims), table)


def _held(table: Table, these: ColumnElement[bool]) -> Update:
    """Not when another relay holds them by now, because the lease ended."""
    return update(table).where(these, table.c.claimed_by == bindparam("holder"))


def _set_free(claimed: Update, table: Table) -> Update:
    """A row that has failed before stays behind those that never did."""
    free_at_us = case((table.c.attempts > 0, bindparam("now_us")), else_=READY)
    return claimed.values(available_at_us=free_at_us, claimed_by=None)


def limiting(table: Table) -> Executable:
    """Shortens waits that end later than they could if they began now.

    A lease lasts ``lease_us`` at most, and a pause after a failure ``pause_us``. A delayed row is
    concerned where it says that it was written later than now: it then waits as long as it was to
    wait when it was written.
    """
    row = table.c
    now_us = bindparam("now_us", type_=BigInteger)
    was_never_tried = and_(row.claimed_by.is_(None), row.attempts == 0)
    longest_us = case(
        (row.claimed_by.is_not(None), bindparam("lease_us")),
        (row.attempts > 0, bindparam("pause_us")),
        else_=row.due_at_us - row.timestamp_us,
    )
    tolerance_us = _CLOCKS_DIFFER_US
    too_late = and_(
        _waits(table),
        row.available_at_us > now_us + longest_us + tolerance_us,
        or_(~was_never_tried, row.timestamp_us > now_us + tolerance_us),
    )
    these = _locked(table).where(too_late)
    # Said to be written after it was due, it would become neither ready nor due.
    ends_at_us = now_us + case((longest_us > 0, longest_us), else_=0)
    return update(table).where(row.id.in_(these), too_late).values(available_at_us=ends_at_us)


def _locked(table: Table) -> Select[tuple[int]]:
    """Rows that nobody else is changing, which will not be waited for."""
    return select(table.c.id).with_for_update(skip_locked=True)


def _waits(table: Table) -> ColumnElement[bool]:
    """Lets the index leave out what is ready, which may be much."""
    return table.c.available_at_us > READY


def holders(table: Table) -> Executable:
    """Who claims something."""
    claimed_by = table.c.claimed_by
    return select(claimed_by).where(_waits(table), claimed_by.is_not(None)).distinct()


def backlog(table: Table) -> Executable:
    """All but the delayed."""
    row = table.c
    is_due = or_(
        row.available_at_us <= bindparam("now_us"), row.attempts > 0, row.claimed_by.is_not(None)
    )
    return select(*_how_many(table)).where(is_due)


def _how_many(table: Table) -> tuple[ColumnElement[int], ColumnElement[int]]:
    return func.count().label("messages"), func.min(table.c.due_at_us).label("oldest_us")


def failing(table: Table) -> Executable:
    row = table.c
    causes = [(row.last_error.startswith(f"{name}:"), cause) for name, cause in _CAUSES.items()]
    cause = case(*causes, else_="other").label("cause")
    messages, oldest_us = _how_many(table)
    failed = select(cause, messages, oldest_us).where(
        _waits(table), row.attempts >= bindparam("attempts_least")
    )
    return failed.group_by("cause").order_by(messages.desc(), "cause")

"""The states of a row of the outbox, and the statements that move it from one to another.

======== ================================================ ====================================
state    ``available_at_us``                              recognised by
======== ================================================ ====================================
ready    0                                                nothing else
delayed  when it is due, from ``not_before``              no attempt, no claim
claimed  the end of the lease                             ``claimed_by``
failed   the next attempt                                 ``attempts`` above 0, no claim
======== ================================================ ====================================

So a ready row depends on no clock, and leaves in the order of ``id``, which the database counts up.
The other three wait by the wall clock of the process that wrote the row, the only clock that
several hosts, a database without one (SQLite) and a ``not_before`` have in common. It may be ahead,
or be set back. Therefore no wait may end later than it could if it began now:
:attr:`Statements.limit_waits` shortens those that do. A clock that is set forward ends waits early:
a failed row is tried sooner, and a claim may be taken over while its rows are being published,
which publishes them again under their ids.

Relays of older versions may use the same table. They set ``available_at_us`` of each new row to
the moment of its insertion: here it counts as delayed until then.
"""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

READY = 0
"""``available_at_us`` of a row that waits for nothing."""

Cause = Literal["unroutable", "refused", "unconfirmed", "other"]
"""Why a row was not published: its last error, as the value of a metric label."""

_CAUSES: dict[str, Cause] = {
    "Unroutable": "unroutable",
    "PublishRefused": "refused",
    "NotConfirmed": "unconfirmed",
}
_CLOCK_SKEW_US = 1_000_000
"""Tolerated between hosts."""

To = Literal["any", "these", "others"]
"""To which destinations: any, or those in or not in the parameter ``destinations``."""


def destination(exchange: str | None, routing_key: str | None, message_type: str) -> str:
    """What rows have in common that fail together; without a route, the topology goes by type."""
    if exchange is None or routing_key is None:
        return message_type
    return f"{exchange} {routing_key}"


class Statements:
    """Built once for a table: building takes several times as long as executing."""

    def __init__(self, table: sa.Table) -> None:
        self._table = table
        row = table.c
        in_ids = row.id.in_(sa.bindparam("row_ids", expanding=True))
        # Not when another relay holds them by now, because the lease ended.
        is_held = row.claimed_by == sa.bindparam("holder")
        # Lets the index leave out what is ready, which may be much.
        waits = row.available_at_us > READY
        self.insertion = sa.insert(table)
        self.deletion = sa.delete(table).where(in_ids)
        self.postponement = (
            sa.update(table)
            .where(row.id == sa.bindparam("row_id"), is_held)
            .values(
                attempts=row.attempts + 1,
                last_error=sa.bindparam("error"),
                available_at_us=sa.bindparam("at_us"),
                claimed_by=None,
            )
        )
        self.release = self._releasing(in_ids, is_held)
        claims = row.claimed_by.in_(sa.bindparam("holders", expanding=True))
        of_holders = row.id.in_(self._unlocked().where(waits, claims))
        self.release_of = self._releasing(of_holders, claims)
        self.holders = (
            sa.select(row.claimed_by).where(waits, row.claimed_by.is_not(None)).distinct()
        )
        self.limit_waits = self._limiting_waits(waits)
        messages, oldest_us = sa.func.count().label("messages"), sa.func.min(row.due_at_us)
        is_due = sa.or_(
            row.available_at_us <= sa.bindparam("now_us"),
            row.attempts > 0,
            row.claimed_by.is_not(None),
        )
        self.backlog = sa.select(messages, oldest_us.label("oldest_us")).where(is_due)
        causes = [(row.last_error.startswith(f"{name}:"), cause) for name, cause in _CAUSES.items()]
        self.failing = (
            sa.select(sa.case(*causes, else_="other").label("cause"), messages, oldest_us)
            .where(waits, row.attempts >= sa.bindparam("attempts_least"))
            .group_by("cause")
            .order_by(messages.desc(), "cause")
        )

    def claim_ready(self, to: To) -> sa.Executable:
        row = self._table.c
        return self._claim(to, row.available_at_us == READY, row.id)

    def claim_waiting(self, to: To) -> sa.Executable:
        """Rows whose wait is over, the earliest first."""
        row = self._table.c
        is_over = sa.and_(
            row.available_at_us > READY, row.available_at_us <= sa.bindparam("now_us")
        )
        return self._claim(to, is_over, row.available_at_us, row.id)

    def _claim(
        self, to: To, is_available: sa.ColumnElement[bool], *order: sa.ColumnElement[int]
    ) -> sa.Executable:
        row = self._table.c
        route = row.exchange + " " + row.routing_key  # NULL where one of them is
        known = sa.func.coalesce(route, row.message_type).in_(
            sa.bindparam("destinations", expanding=True)
        )
        goes = {"any": [], "these": [known], "others": [~known]}[to]
        due = (
            self._unlocked()
            .where(is_available, *goes)
            .order_by(*order)
            .limit(sa.bindparam("most", type_=sa.Integer))
            # A plain subquery could be evaluated again for each row, and so exceed the limit.
            .cte("due")
        )
        return (
            sa.update(self._table)
            .where(row.id.in_(sa.select(due.c.id)), is_available)
            .values(available_at_us=sa.bindparam("until_us"), claimed_by=sa.bindparam("holder"))
            .returning(self._table)
        )

    def _unlocked(self) -> sa.Select[tuple[int]]:
        """Rows that no other transaction is changing; it does not wait for the others."""
        return sa.select(self._table.c.id).with_for_update(skip_locked=True)

    def _releasing(self, *which: sa.ColumnElement[bool]) -> sa.Update:
        """A row that has failed before stays behind those that never did."""
        now_us = sa.bindparam("now_us", type_=sa.BigInteger)
        free_at_us = sa.case((self._table.c.attempts > 0, now_us), else_=READY)
        return (
            sa.update(self._table).where(*which).values(available_at_us=free_at_us, claimed_by=None)
        )

    def _limiting_waits(self, waits: sa.ColumnElement[bool]) -> sa.Executable:
        """Shortens waits that end later than they could if they began now.

        A lease lasts ``lease_us`` at most, and a pause after a failure ``pause_us``. A delayed row
        is concerned where its timestamp is later than now: it then waits as long as it was to wait
        when it was written.
        """
        row = self._table.c
        now_us = sa.bindparam("now_us", type_=sa.BigInteger)
        was_never_tried = sa.and_(row.claimed_by.is_(None), row.attempts == 0)
        longest_us = sa.case(
            (row.claimed_by.is_not(None), sa.bindparam("lease_us")),
            (row.attempts > 0, sa.bindparam("pause_us")),
            else_=row.due_at_us - row.timestamp_us,
        )
        too_late = sa.and_(
            waits,
            row.available_at_us > now_us + longest_us + _CLOCK_SKEW_US,
            sa.or_(~was_never_tried, row.timestamp_us > now_us + _CLOCK_SKEW_US),
        )
        # Negative where the timestamp is later than the due time: the row would never be due.
        ends_at_us = now_us + sa.case((longest_us > 0, longest_us), else_=0)
        these = row.id.in_(self._unlocked().where(too_late))
        return sa.update(self._table).where(these, too_late).values(available_at_us=ends_at_us)

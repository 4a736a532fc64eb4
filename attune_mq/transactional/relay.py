"""The relay: publishes what the outbox holds, and deletes what the broker confirmed.

======================================= ====================== =====================================
the power fails, or the process dies    the database has       what happens next
======================================= ====================== =====================================
before the service's commit             nothing of it          there is no message
after it, before the claim              the row, ready         any relay publishes it
after the claim, before publishing      the row, claimed       the claim ends, see below; a relay
                                                               publishes it
while it is published, or after that    likewise               likewise: a second time, with the
and before the delete is committed                             same ``message_id``, which the inbox
                                                               of its consumer drops
after a failure, before that is         likewise               likewise; the attempt is not counted
committed
after the delete is committed           nothing                it is over
======================================= ====================== =====================================

The claim of a process that died ends with the next look of another relay on the outbox, within
``poll_interval_s`` or a second, whichever is longer, where
:mod:`attune_mq.transactional.claim_holders` can tell, and after ``lease_s`` where it cannot.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine

from attune_mq.errors import LifecycleError
from attune_mq.forking import OwnProcess, after_fork
from attune_mq.transactional.batches import (
    Batches,
    FailingDestinations,
    Relayed,
    SupportsPublish,
    Terms,
    claim_of_each,
    claim_others,
)
from attune_mq.transactional.claim_holders import Identity, gone, presence_on
from attune_mq.transactional.outbox import Failing, Outbox
from attune_mq.transactional.relay_thread import RelayThread
from attune_mq.transactional.schema import utc_now

_LOOK_EVERY_S = 1.0
"""Or after as long as the last took, where so much waits that this is more."""
_STUCK_AFTER = 2
"""Attempts. The first may be for a queue that is just being made; the second is a second later."""


class OutboxRelay:
    """Publishes committed messages, by threads. Several processes may run one on one database.

    A turn claims up to ``batch_size`` due messages for ``lease_s``, publishes them with their
    confirms in flight together, and in one transaction, which claims the next ones as well,
    deletes the confirmed ones and postpones the failed ones: 1 s after the first failure, then
    twice as long each time, at most ``longest_retry_s``. There is no last attempt: a message stays
    until it is confirmed.

    A message that fails holds up no other. It waits by itself. And a destination (exchange and
    routing key, or the type of a message that has no route of its own) none of whose messages in a
    batch was confirmed is left to a second thread until one is; the first goes on with all others,
    however many wait for that one and however long the broker takes to refuse them. The second
    tries as many of each such destination, every ``poll_interval_s``.

    No row is deleted that the broker did not confirm. What can happen is the opposite: when the
    process dies between the confirm and the delete, or takes longer than the lease, a message is
    published a second time, with the same ``message_id``; the inbox of its consumer drops it. So
    choose ``lease_s`` longer than the publisher's own deadline for a batch, and the same for all
    relays of one outbox, like ``longest_retry_s``.

    Order: messages to one destination leave in the order of their ``id``, that in which they were
    added, as long as one relay runs, none to that destination fails, and none is delayed. A
    transaction takes its ids as it adds: of two that overlap on PostgreSQL the later ids may be
    committed, and leave, first. A message that fails is overtaken by those behind it. No clock
    has a part in it.

    When the database is locked or away, or the broker is, the relay says so once, waits (0.1 s,
    doubled up to 5 s), tries again, and says once that it goes on. :attr:`trouble` tells readiness.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        publisher: SupportsPublish,
        *,
        batch_size: int = 100,
        lease_s: float = 60.0,
        poll_interval_s: float = 1.0,
        longest_retry_s: float = 60.0,
        name: str | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._identity = Identity(name)
        self._terms = Terms(
            batch_size=batch_size,
            lease=timedelta(seconds=lease_s),
            longest_retry=timedelta(seconds=longest_retry_s),
            claim_name=self._identity.claim_name,
            now=now,
        )
        self._show_up()
        self._process = OwnProcess()
        after_fork(self._leave_to_parent)
        self._looking = threading.Lock()
        self._look_at_s = 0.0
        self._stuck: tuple[Failing, ...] = ()
        self._failing = FailingDestinations()
        self._first, self._second = (
            Batches(engine, outbox, publisher, self._terms, self._failing, claim)
            for claim in (claim_others, claim_of_each)
        )
        self._threads = tuple(
            RelayThread(turn, name=thread_name, full=batch_size, poll_interval_s=poll_interval_s)
            for thread_name, turn in (
                ("outbox-relay", self._relay_most),
                ("outbox-relay-failing", self._relay_failing),
            )
        )

    @property
    def trouble(self) -> str | None:
        """Why messages do not go out, or ``None``: at once, from memory.

        The database or the broker is away; the publisher has not answered for longer than the
        lease, or a turn, which asks the database as well, has not ended for longer; or there are
        messages that failed twice, which says how many of each cause and for how long the oldest
        has been due. That is read from the database every second, so it tells of what other relays
        could not publish too.
        """
        unanswered_s = max(self._first.publishing_s, self._second.publishing_s)
        lease_s = self._terms.lease.total_seconds()
        if unanswered_s > lease_s:
            return f"the publisher has not answered for {unanswered_s:.0f} s"
        turn_s = max(thread.turn_s for thread in self._threads)
        if turn_s > lease_s:
            return f"a turn has not ended for {turn_s:.0f} s"
        waits = next((one.trouble for one in self._threads if one.trouble is not None), None)
        return waits or _told(self._stuck)

    @property
    def running(self) -> bool:
        """Whether the threads live, and none has ended unasked."""
        lives = any(thread.running for thread in self._threads)
        return lives and all(thread.running or thread.is_stopping for thread in self._threads)

    def _show_up(self) -> None:
        self._presence = presence_on(self._engine, self._identity.id)
        self._let_go = weakref.finalize(self, self._presence.end)
        self._let_go.atexit = False  # a process that ends lets go by itself

    def _leave_to_parent(self) -> None:
        """In a fork: what the parent claimed stays its own; one not started yet can be started."""
        self._looking = threading.Lock()
        self._let_go.detach()
        self._presence.leave_to_parent()
        self._identity.renew()
        self._show_up()

    def start(self) -> None:
        """Start the threads. Once only: :class:`~attune_mq.errors.LifecycleError` the second time,
        and after :meth:`stop`; :class:`~attune_mq.errors.ForkedProcess` in a fork of the process
        that started it."""
        self._process.require("the outbox relay")
        if self._process.has_begun or self._threads[0].is_stopping:
            raise LifecycleError("outbox relay: it was started or stopped before; make a new one")
        self._process.begin()
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that something was committed, so that it need not wait for the next poll.

        Call it after the commit, from any thread; it returns at once. In a fork of the process that
        started it, it does nothing: the next poll there finds it.
        """
        if self._process.is_another:
            return
        self._threads[0].wake()

    def stop(self, deadline_s: float = 10.0) -> bool:
        """Publish what is due, as far as that goes without trouble, and end the threads.

        ``False`` when they have not ended after ``deadline_s``. What is not published then stays
        in the outbox, for another relay. In a fork of the process that started it, it does nothing.
        """
        if self._process.is_another:
            return True
        stop_at = time.monotonic() + deadline_s
        for thread in self._threads:
            thread.begin_to_stop(stop_at)
        for thread in self._threads:
            thread.join(max(0.0, stop_at - time.monotonic()))
        has_ended = not any(thread.running for thread in self._threads)
        if has_ended:
            with self._looking:
                self._presence.end()
        return has_ended

    def run_once(self) -> Relayed:
        """One turn: claim a batch, publish it, settle it; another for destinations that fail.

        Nothing to do: ``Relayed(0, 0)``. Raises SQLAlchemy's error when the database refuses,
        :class:`BrokerUnavailable` when nothing could be published. Either way nothing is lost, and
        what was confirmed is known and deleted by the next turn.
        """
        self._process.require("the outbox relay")
        self._look_at_s = 0.0
        failing = self._failing.known()  # before the first of them adds to it
        most = self._relay_most(is_last=True)
        return most + self._second.relay(failing) if failing else most

    def _relay_most(self, *, is_last: bool) -> Relayed:
        self._look()
        relayed = self._first.relay(self._failing.known(), settle=is_last)
        if relayed.failed:  # what is left of these destinations is for the other thread
            self._threads[1].wake()
        return relayed

    def _relay_failing(self, *, is_last: bool) -> Relayed:
        failing = self._failing.known()
        if not failing:
            self._second.settle()
            return Relayed()
        relayed = self._second.relay(failing, settle=is_last)
        if relayed.confirmed:
            self._threads[0].wake()
        elif is_last:  # the next batch is likely to fail too, and somebody waits for the end
            return Relayed()
        return relayed

    def _look(self) -> None:
        """At what waits: ends the claims of the dead and waits that are too long, counts failures.

        The lock that says that this relay is there is taken before its first claim."""
        with self._looking:
            began_at_s = time.monotonic()
            if began_at_s < self._look_at_s:
                return
            self._presence.show()
            with self._engine.begin() as tx:
                holders = self._outbox.holders(tx)
                self._outbox.release_claims_of(tx, gone(self._presence, tx, holders))
                self._outbox.limit_waits(
                    tx, lease=self._terms.lease, longest_retry=self._terms.longest_retry
                )
                self._stuck = self._outbox.failing(tx, attempts=_STUCK_AFTER)
            now_s = time.monotonic()
            self._look_at_s = now_s + max(_LOOK_EVERY_S, now_s - began_at_s)


def _told(failing: Sequence[Failing]) -> str | None:
    if not failing:
        return None
    oldest_s = max(one.oldest_age_s for one in failing)
    causes = ", ".join(f"{one.messages} {one.cause}" for one in failing)
    return f"messages are not published: {causes}; the oldest for {oldest_s:.0f} s"

"""The relay: publishes the messages of the outbox, and deletes what the broker confirmed.

======================================= ====================== =====================================
the process dies, or the power fails    the database has       what happens next
======================================= ====================== =====================================
before the service's commit             nothing of it          there is no message
after it, before the claim              the row, ready         any relay publishes it
after the claim, before the commit of   the row, claimed       the claim ends, see below; a relay
the delete                                                     publishes it: a second time, with the
                                                               same ``message_id``, if it was
                                                               published before, so that the inbox
                                                               of its consumer drops it
after a failure, before that is         likewise               likewise; the attempt is not counted
committed
after the delete is committed           nothing                nothing
======================================= ====================== =====================================

Another relay on the outbox detects that a process died and releases its claims, within
``poll_interval_s`` or a second, whichever is longer, where
:mod:`attune_mq.transactional.claim_holders` can tell; else they end after ``lease_s``.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Engine

from attune_mq.errors import LifecycleError
from attune_mq.forking import OwnProcess, after_fork
from attune_mq.transactional import batches
from attune_mq.transactional.claim_holders import Identity, gone, lock_on
from attune_mq.transactional.outbox import Failing, Outbox
from attune_mq.transactional.relay_thread import RelayThread

_LOOK_EVERY_S = 1.0
"""Or as long as the last look took, where so much waits that this is longer."""
_STUCK_AFTER = 2
"""Attempts. The first may precede the declaration of a queue; the second is a second later."""


class OutboxRelay:
    """Publishes committed messages, by threads. Several processes may run one on one database.

    A turn claims up to ``batch_size`` due messages for ``lease_s`` and publishes them with their
    confirms in flight together. One transaction, which claims the next batch as well, deletes the
    confirmed ones and postpones the failed ones: 1 s after the first failure, then twice as long
    each time, at most ``longest_retry_s``. There is no last attempt: a message stays until it is
    confirmed.

    A message that fails waits alone, and delays no other. A destination (exchange and routing key,
    or the type of a message that has no route of its own) none of whose messages in a batch was
    confirmed is left to a second thread until one is; the first goes on with all others, however
    many wait for that one and however long the broker takes to refuse them. The second tries as
    many of each such destination, every ``poll_interval_s``.

    No row is deleted that the broker did not confirm. A message is published a second time, with
    the same ``message_id``, when the process dies between confirm and delete, or takes longer than
    the lease. So choose ``lease_s`` longer than the publisher's own deadline for a batch, and the
    same for all relays of one outbox, like ``longest_retry_s``.

    Order: messages to one destination leave in the order of their ``id``, that in which they were
    added, whatever the clock says, as long as one relay runs, none to that destination fails, and
    none is delayed. A transaction takes its ids as it adds: of two that overlap on PostgreSQL the
    later ids may be committed, and leave, first. A message that fails is overtaken by later ones.

    While the database or the broker is unavailable, the relay retries (after 0.1 s, doubled up to
    5 s). It logs that once, and once that it recovered. :attr:`trouble` is for readiness checks.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        publisher: batches.SupportsPublish,
        *,
        batch_size: int = 100,
        lease_s: float = 60.0,
        poll_interval_s: float = 1.0,
        longest_retry_s: float = 60.0,
        name: str | None = None,
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._identity = Identity(name)
        self._terms = batches.Terms(
            batch_size=batch_size,
            lease=timedelta(seconds=lease_s),
            longest_retry=timedelta(seconds=longest_retry_s),
            claim_name=self._identity.claim_name,
        )
        self._hold_lock()
        self._process = OwnProcess()
        after_fork(self._leave_to_parent)
        self._looking = threading.Lock()
        self._look_at_s = 0.0
        self._stuck: tuple[Failing, ...] = ()
        self._failing = batches.FailingDestinations()
        self._first, self._second = (
            batches.Batches(engine, outbox, publisher, self._terms, self._failing, select)
            for select in (batches.claim_others, batches.claim_of_each)
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
        """Why messages are not published, or ``None``; at once, from memory.

        The database or the broker is unavailable; the publisher has not answered for longer than
        the lease, or a turn, which uses the database as well, has lasted longer; or messages failed
        twice: how many of each cause, and for how long the oldest has been due. That is read from
        the database every second, so it includes what other relays could not publish.
        """
        unanswered_s = max(self._first.publishing_s, self._second.publishing_s)
        lease_s = self._terms.lease.total_seconds()
        if unanswered_s > lease_s:
            return f"the publisher has not answered for {unanswered_s:.0f} s"
        turn_s = max(thread.turn_s for thread in self._threads)
        if turn_s > lease_s:
            return f"a turn has not ended for {turn_s:.0f} s"
        waits = next((one.trouble for one in self._threads if one.trouble is not None), None)
        return waits or _described(self._stuck)

    @property
    def running(self) -> bool:
        """Whether the threads run, and none has ended before :meth:`stop`."""
        lives = any(thread.running for thread in self._threads)
        return lives and all(thread.running or thread.is_stopping for thread in self._threads)

    def _hold_lock(self) -> None:
        self._lock = lock_on(self._engine, self._identity.id)
        self._unlock = weakref.finalize(self, self._lock.release)
        self._unlock.atexit = False  # the end of a process releases it

    def _leave_to_parent(self) -> None:
        """In a fork: the parent keeps its claims; one not started yet can be started."""
        self._looking = threading.Lock()
        self._unlock.detach()
        self._lock.leave_to_parent()
        self._identity.renew()
        self._hold_lock()

    def start(self) -> None:
        """Starts the threads, once: raises :class:`~attune_mq.errors.LifecycleError` the second
        time and after :meth:`stop`, :class:`~attune_mq.errors.ForkedProcess` in a fork of the
        process that started it."""
        self._process.require("the outbox relay")
        if self._process.has_begun or self._threads[0].is_stopping:
            raise LifecycleError("outbox relay: it was started or stopped before; make a new one")
        self._process.begin()
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Makes it look for committed messages now instead of at the next poll.

        Call it after the commit, from any thread; it returns at once. In a fork of the process that
        started it, it does nothing.
        """
        if not self._process.is_another:
            for thread in self._threads:  # the message may be for a destination that has failed
                thread.wake()

    def stop(self, deadline_s: float = 10.0) -> bool:
        """Publishes what is due, until the first failure, and ends the threads.

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
                self._lock.release()
        return has_ended

    def run_once(self) -> batches.Relayed:
        """One turn: claims a batch, publishes and settles it; another for destinations that fail.

        Raises SQLAlchemy's error when the database refuses, :class:`BrokerUnavailable` when nothing
        could be published. Either way nothing is lost; the next turn deletes what was confirmed.
        """
        self._process.require("the outbox relay")
        self._look_at_s = 0.0
        failing = self._failing.known()  # before the first of them adds to it
        most = self._relay_most(True)
        return most + self._second.relay(failing) if failing else most

    def _relay_most(self, is_last: bool) -> batches.Relayed:
        self._look()
        relayed = self._first.relay(self._failing.known(), settle=is_last)
        if relayed.failed:  # the other thread publishes what is left of these destinations
            self._threads[1].wake()
        return relayed

    def _relay_failing(self, is_last: bool) -> batches.Relayed:
        failing = self._failing.known()
        if not failing:
            self._second.settle()
            return batches.Relayed()
        relayed = self._second.relay(failing, settle=is_last)
        if relayed.confirmed:
            self._threads[0].wake()
        elif is_last:  # the next batch is likely to fail too, and the caller of stop() waits
            return batches.Relayed()
        return relayed

    def _look(self) -> None:
        """Releases the claims of dead relays, shortens waits that are too long, counts failures.

        This relay's own lock is taken before its first claim."""
        with self._looking:
            began_at_s = time.monotonic()
            if began_at_s < self._look_at_s:
                return
            self._lock.take()
            with self._engine.begin() as tx:
                holders = self._outbox.holders(tx)
                self._outbox.release_claims_of(tx, gone(self._lock, tx, holders))
                self._outbox.limit_waits(
                    tx, lease=self._terms.lease, longest_retry=self._terms.longest_retry
                )
                self._stuck = self._outbox.failing(tx, attempts=_STUCK_AFTER)
            now_s = time.monotonic()
            self._look_at_s = now_s + max(_LOOK_EVERY_S, now_s - began_at_s)


def _described(failing: Sequence[Failing]) -> str | None:
    if not failing:
        return None
    oldest_s = max(one.oldest_age_s for one in failing)
    causes = ", ".join(f"{one.messages} {one.cause}" for one in failing)
    return f"messages are not published: {causes}; the oldest for {oldest_s:.0f} s"

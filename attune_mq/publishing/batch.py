"""Messages that one caller waits for, each resolved exactly once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Container, Iterable, Sequence

from attune_mq.amqp.runtime import Runtime
from attune_mq.message.outgoing import Outcome, Outgoing
from attune_mq.publishing.confirms import Entry, Resolved


class BatchEntry(Entry):
    """Knows its batch."""

    __slots__ = ("batch",)

    def __init__(self, message: Outgoing, index: int, batch: Batch) -> None:
        super().__init__(message, index)
        self.batch = batch


class Batch:
    """At least one message. All but :meth:`wait` with the lock of the connection held."""

    def __init__(self, messages: Sequence[Outgoing], runtime: Runtime) -> None:
        self._outcomes: list[Outcome | None] = [None] * len(messages)
        self.entries = [BatchEntry(message, i, self) for i, message in enumerate(messages)]
        self.left = len(messages)
        """How many are not resolved."""
        self._pending = runtime.lock()  # until all are resolved; an Event costs five times that
        self._pending.acquire()

    def resolve(self, index: int, outcome: Outcome) -> None:
        """The first outcome counts: the confirm that came, or the deadline that passed before."""
        if self._outcomes[index] is None:
            self._outcomes[index] = outcome
            self.left -= 1
            if not self.left:
                self._pending.release()

    def fail(
        self, reason: str, cause: BaseException | None = None, *, but: Container[Entry] = ()
    ) -> None:
        """All that is not resolved becomes unconfirmed, ``but`` those which will be resolved. Also
        after a thread was interrupted during :meth:`resolve`."""
        for entry in self.entries:
            if entry not in but and self._outcomes[entry.index] is None:
                self._outcomes[entry.index] = entry.not_confirmed(reason, cause)
        self.left = self._outcomes.count(None)
        if not self.left:
            with contextlib.suppress(RuntimeError):  # it was released just before
                self._pending.release()

    def wait(self, timeout_s: float) -> bool:
        """Whether all are resolved by then. For the one caller, once."""
        return not self.left or self._pending.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))

    def end(self) -> list[Outcome]:
        """Of those that are resolved, which after the wait are all. The entries, each of which
        knows its batch, are let go: a reference cycle for each message would keep the garbage
        collector busy, and a full run of that stops all threads for 20 ms and more."""
        self.entries = []
        return [outcome for outcome in self._outcomes if outcome is not None]


def resolve(resolved: Iterable[Resolved]) -> None:
    for entry, outcome in resolved:
        assert isinstance(entry, BatchEntry)
        entry.batch.resolve(entry.index, outcome)

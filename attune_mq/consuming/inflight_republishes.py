"""Republishes in flight: the copy of a message is published, its original not yet acknowledged.

A poison message, which kills its process, must not be begun in that window: both would be left
behind, and poison messages would multiply. So what was redelivered before, and may therefore be
one, begins only when the windows of this process that it could spoil are over. Other processes may
begin the copy at once: their death does not keep us from acknowledging the original.
"""

from __future__ import annotations

from collections.abc import Callable

from attune_mq.amqp.runtime import SYSTEM, Runtime
from attune_mq.forking import after_fork

LONGEST_WAIT_S = 1.0
"""For republishes that began after the wait began. There may always be another one."""
_LOOK_AGAIN_S = 0.1


class InFlightRepublishes:
    """Those of one process. Safe from any thread."""

    def __init__(self, runtime: Runtime = SYSTEM) -> None:
        self._runtime = runtime
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._changed = self._runtime.condition()
        self._open: set[object] = set()

    def opened(self) -> object:
        """Before a copy is published; :meth:`ended` takes what it returns."""
        republish = object()
        with self._changed:
            self._open.add(republish)
        return republish

    def ended(self, republish: object) -> None:
        """The original is acknowledged, or cannot be."""
        with self._changed:
            self._open.discard(republish)
            self._changed.notify_all()

    def wait_until_over(self, still_wanted: Callable[[], bool]) -> None:
        """Until those are over that there are now, and for a second at most until there is none.

        A copy that can be begun here was published before, so its own republish is among the
        former. ``still_wanted`` is asked now and then; once it is false there is no reason to wait.
        """
        with self._changed:
            begun = frozenset(self._open)
            while self._open & begun and still_wanted():
                self._changed.wait(_LOOK_AGAIN_S)
            self._changed.wait_for(lambda: not self._open, LONGEST_WAIT_S)

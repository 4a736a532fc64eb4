"""Republishes in flight: the copy of a message is published, its original not yet acknowledged.

A poison message, which kills its process, must not be begun in that window: both would be left
behind, and poison messages would multiply. So what was redelivered before, and may therefore be
one, begins only when the windows of this process that it could spoil are over. Other processes may
begin the copy at once: their death does not keep us from acknowledging the original.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

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
        self._open: set[Republish] = set()

    def opened(self, republish: Republish) -> None:
        with self._changed:
            self._open.add(republish)

    def ended(self, republish: Republish) -> None:
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


class Republish:
    """Of one message: from :meth:`begin`, before its copy is published, to the end of ``with``,
    when its original is acknowledged, or cannot be. Where no copy is made it is none."""

    __slots__ = ("_all", "has_begun")

    def __init__(self, republishes: InFlightRepublishes) -> None:
        self._all = republishes
        self.has_begun = False

    def begin(self) -> None:
        self.has_begun = True
        self._all.opened(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.has_begun:
            self._all.ended(self)

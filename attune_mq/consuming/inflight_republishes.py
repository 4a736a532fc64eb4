"""The moments in which a message is there twice: its copy is published, its original not yet
acknowledged.

A message that kills its process must not be begun in such a moment. It would leave both behind,
each of them deadly: they would multiply. So what came back unsettled before, and may therefore be
deadly, begins only when the moments of this process that it could spoil are over. Other processes
may begin the copy at once: their death does not keep us from acknowledging the original.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from attune_mq.forking import after_fork

LONGEST_WAIT_S = 1.0
"""For handovers that began after somebody began to wait. There may always be another one."""
_LOOK_AGAIN_S = 0.1


class Handovers:
    """Those of one process. Safe from any thread."""

    def __init__(self) -> None:
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._open: set[Handover] = set()

    def opened(self, handover: Handover) -> None:
        with self._changed:
            self._open.add(handover)

    def ended(self, handover: Handover) -> None:
        with self._changed:
            self._open.discard(handover)
            self._changed.notify_all()

    def wait_until_over(self, still_wanted: Callable[[], bool]) -> None:
        """Until those are over that there are now, and for a second at most until there is none.

        A copy that can be begun here was published before, so its own handover is among the
        former. ``still_wanted`` is asked now and then; once it is false there is no reason to wait.
        """
        with self._changed:
            begun = frozenset(self._open)
            while self._open & begun and still_wanted():
                self._changed.wait(_LOOK_AGAIN_S)
            self._changed.wait_for(lambda: not self._open, LONGEST_WAIT_S)


class Handover:
    """Of one message: from :meth:`begin`, before its copy is published, to the end of ``with``,
    when its original is acknowledged, or cannot be. Where no copy is made it is none."""

    __slots__ = ("_all", "has_begun")

    def __init__(self, handovers: Handovers) -> None:
        self._all = handovers
        self.has_begun = False

    def begin(self) -> None:
        self.has_begun = True
        self._all.opened(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.has_begun:
            self._all.ended(self)

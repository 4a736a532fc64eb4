"""What a fork copies, and what must not be used in the copy.

``os.fork`` (``multiprocessing`` with its method ``fork``, ``gunicorn --preload``, prefork servers)
copies every object and every descriptor, and none of the threads but its own. Two processes that
write to one socket spoil it for both: the broker gives confirms and deliveries to whichever reads
first. So an object that can begin anew does so in the child (:func:`after_fork`), and one that
cannot raises :class:`~attune_mq.errors.ForkedProcess` there (:class:`OwnProcess`). Neither sends a
byte over a socket of the parent.

Source: https://docs.python.org/3/library/os.html#os.register_at_fork. A fork that Python does not
know of (C code that does not call ``PyOS_AfterFork_Child``) is noticed by :class:`OwnProcess` only.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable

from attune_mq.errors import ForkedProcess

logger = logging.getLogger(__name__)

Callback = Callable[[], None]

_callbacks: list[Callable[[], Callback | None]] = []


def after_fork(callback: Callback) -> None:
    """Has it called in each child, before anything else runs there. A bound method is forgotten
    with its object."""
    _callbacks[:] = [reference for reference in _callbacks if reference() is not None]
    is_method = hasattr(callback, "__self__")
    _callbacks.append(weakref.WeakMethod(callback) if is_method else lambda: callback)


def _in_child() -> None:
    for reference in tuple(_callbacks):  # what begins anew may register anew
        callback = reference()
        if callback is not None:
            try:
                callback()
            except Exception:  # the others are to begin anew all the same
                logger.exception("An object could not begin anew after a fork")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class OwnProcess:
    """The process in which something was started: the only one in which it runs."""

    def __init__(self) -> None:
        self._pid: int | None = None

    def begin(self) -> None:
        self._pid = os.getpid()

    @property
    def has_begun(self) -> bool:
        return self._pid is not None

    @property
    def is_another(self) -> bool:
        """Whether it was started, and not in this process, which is a fork of that one."""
        return self._pid is not None and os.getpid() != self._pid

    def __str__(self) -> str:
        return f"process {self._pid}"

    def require(self, what: str) -> None:
        """Raises :class:`~attune_mq.errors.ForkedProcess` where it :attr:`is_another`."""
        if self.is_another:
            raise ForkedProcess(
                f"{what} was started in {self}, of which this one ({os.getpid()}) is "
                f"a fork: its threads and connections stay there; make a new one after the fork"
            )

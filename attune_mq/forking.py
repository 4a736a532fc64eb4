"""Forked processes: what to reset in the child, and what must not be used there.

``os.fork`` (``multiprocessing`` with its method ``fork``, ``gunicorn --preload``, prefork servers)
copies every object and every descriptor, but only the calling thread. Two processes on one socket
corrupt its stream for both. So an object that can be reset is reset in the child
(:func:`after_fork`), and one that cannot raises :class:`~attune_mq.errors.ForkedProcess` there
(:class:`OwnProcess`). Neither sends a byte over a socket of the parent.

Source: https://docs.python.org/3/library/os.html#os.register_at_fork. Only :class:`OwnProcess`
detects a fork of C code that does not call ``PyOS_AfterFork_Child``.
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
    for reference in tuple(_callbacks):  # a callback may register others
        callback = reference()
        if callback is not None:
            try:
                callback()
            except Exception:  # the others are to be reset all the same
                logger.exception("An object could not be reset after a fork")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class OwnProcess:
    """The process that started an object: the only one in which it runs."""

    def __init__(self) -> None:
        self._pid: int | None = None

    def begin(self) -> None:
        self._pid = os.getpid()

    @property
    def has_begun(self) -> bool:
        return self._pid is not None

    @property
    def is_another(self) -> bool:
        """Whether it was started in another process, of which this one is a fork."""
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

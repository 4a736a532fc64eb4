"""Functions that are given to be called: their work is done when they return.

The body of a coroutine function (``async def``) or of a generator function does not run when it is
called. A caller that takes its return for an answer says "done" of what never began. So
such functions are refused where they are given (:func:`check_synchronous`), and what only shows by
what is returned, where it is called (:func:`check_ran`).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Final

from attune_mq.errors import NotSynchronous

_FUNCTIONS: Final = (FunctionType, MethodType, BuiltinFunctionType, partial)
_CONTEXT_MANAGERS: Final = (
    contextlib.AbstractContextManager,
    contextlib.AbstractAsyncContextManager,
)
_COLLECTIONS: Final = (list, tuple, set, frozenset)
_LAZY_MODULES: Final = frozenset({"builtins", "itertools"})
"""Whose iterators do nothing until they are asked: generators, ``map``. A database's cursor, which
is an iterator as well, has done its work."""


def check_synchronous(function: object, what: str) -> None:
    """Raises :class:`~attune_mq.errors.NotSynchronous` for a coroutine function, a generator
    function, and an object that is called as one, also as a method or in a ``partial``; and for a
    class, and what cannot be called at all. ``what`` says in the text what it was given as.

    A plain function around a coroutine function is taken, whatever its ``__wrapped__`` says: it
    may well run it. Where it does not, :func:`check_ran` says so of each call.
    """
    kind = _kind(function)
    if kind is not None:
        raise NotSynchronous(
            f"{what}: expected a plain function, whose work is done when it returns, got {kind}; "
            f"make it a plain `def`, which may run a coroutine by asyncio.run(...)"
        )


def check_ran(returned: object, what: str) -> None:
    """Raises :class:`~attune_mq.errors.NotSynchronous` for what shows that nothing ran yet, or
    that it runs on elsewhere: an awaitable, a generator, a lazy iterator, a context manager of a
    generator, a ``Future``, a function; alone or first in a list. A coroutine is closed."""
    if returned is None:
        return
    kind = _unfinished(returned)
    if kind is not None:
        _close(returned)
        raise NotSynchronous(
            f"{what} returned {kind}: its work is not done; expected a plain function, whose work "
            f"is done when it returns, such as one that runs a coroutine by asyncio.run(...)"
        )


def _kind(function: object) -> str | None:
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return f"a class, {function.__name__}: give an instance of it"
    if not callable(function):
        return f"a {type(function).__name__}, which cannot be called"
    for called in (function, type(function).__call__):
        if inspect.iscoroutinefunction(called):
            return "a coroutine function (async def)"
        if inspect.isasyncgenfunction(called):
            return "an asynchronous generator function (async def with yield)"
        if inspect.isgeneratorfunction(called):
            return "a generator function (with yield)"
    return None


def _unfinished(returned: object) -> str | None:
    if inspect.isawaitable(returned):
        return f"an awaitable ({type(returned).__name__})"
    if inspect.isasyncgen(returned):
        return "an asynchronous generator"
    if isinstance(returned, Iterator) and type(returned).__module__ in _LAZY_MODULES:
        return f"a lazy iterator ({type(returned).__name__})"
    if isinstance(returned, _CONTEXT_MANAGERS) and type(returned).__module__ == "contextlib":
        return "a context manager, which nobody entered"
    if isinstance(returned, Future):
        return "a Future, for which nobody waits"
    if isinstance(returned, _FUNCTIONS):
        return "a function, which nobody called"
    if isinstance(returned, _COLLECTIONS):
        return _unfinished(next(iter(returned), None))
    return None


def _close(returned: object) -> None:
    """Else all that Python says of it is a warning, some time later, that it was never awaited."""
    if isinstance(returned, _COLLECTIONS):
        for each in returned:
            _close(each)
    elif inspect.iscoroutine(returned) or inspect.isgenerator(returned):
        with contextlib.suppress(Exception):
            returned.close()

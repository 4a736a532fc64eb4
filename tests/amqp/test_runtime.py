"""Consumers and publishers come to the machine by :mod:`attune_mq.amqp.runtime` alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "attune_mq"
ROOMS = ("amqp", "message", "publishing", "consuming")
PORT = "amqp/runtime.py"
MODULES = sorted(path for room in ROOMS for path in (LIBRARY / room).rglob("*.py"))

WHOLE = frozenset(
    [
        *("asyncio", "multiprocessing", "queue", "random", "sched", "secrets", "select"),
        *("selectors", "signal", "socket", "ssl", "subprocess", "time"),
    ]
)
"""Nothing of these modules is used."""
NAMES = frozenset(
    [
        *(f"threading.{name}" for name in ("Lock", "RLock", "Condition", "Event", "Thread")),
        *(f"threading.{name}" for name in ("Timer", "Semaphore", "BoundedSemaphore", "Barrier")),
        *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
        *(f"uuid.uuid{version}" for version in (1, 4, 6, 7)),
        "_thread",
        "concurrent.futures.Executor",
        "concurrent.futures.ThreadPoolExecutor",
        "concurrent.futures.wait",
        "datetime.date.today",
        "os.fork",
        "os.getrandom",
        "os.urandom",
    ]
)
"""``threading.local``, ``get_ident``, ``current_thread`` and ``TIMEOUT_MAX`` neither wait nor make
a thread."""

EXCEPTIONS = {
    ("amqp/connection_errors.py", "socket"): "tells the errors of a name lookup from others",
    ("amqp/io_loop.py", "queue"): "the exception that an empty queue of the port raises",
    ("amqp/pika_link.py", "time"): "on a BlockingConnection of other code, which waits itself",
    ("amqp/settings.py", "ssl"): "the type of the context that the port connects with",
    ("amqp/tls.py", "ssl"): "makes the context that the port connects with",
    ("amqp/tls.py", "socket"): "asks, after a failure, which of the settings of TLS is wrong",
    ("message/envelope.py", "os.urandom"): "ids of envelopes that users make; the face has no port",
    ("message/envelope.py", "datetime.datetime.now"): "the same of its time, unless it is given",
}


def of_the_machine(name: str) -> str | None:
    """The entry above that forbids a dotted name, or ``None``."""
    parts = name.split(".")
    prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return next(iter(sorted(prefixes & (WHOLE | NAMES))), None)


def imported_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, and what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                yield alias.asname or root, alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


class WithoutAnnotations(ast.NodeTransformer):
    """A type is no use of it: nothing is evaluated."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return None if node.value is None else self.visit(ast.Expr(node.value))

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def dotted(node: ast.AST, imported: dict[str, str]) -> str | None:
    match node:
        case ast.Name(id=name):
            return imported.get(name)
        case ast.Attribute(value=value, attr=attribute):
            origin = dotted(value, imported)
            return None if origin is None else f"{origin}.{attribute}"
        case _:
            return None


def uses(source: str) -> set[str]:
    """What of the machine the source imports or names, types aside."""
    tree = ast.parse(source)
    imported = dict(imported_names(tree))
    named = {dotted(node, imported) for node in ast.walk(WithoutAnnotations().visit(tree))}
    names = {*imported.values()} | {name for name in named if name is not None}
    return {found for name in names if (found := of_the_machine(name)) is not None}


def found_in_the_rooms() -> set[tuple[str, str]]:
    return {
        (path.relative_to(LIBRARY).as_posix(), name)
        for path in MODULES
        for name in uses(path.read_text(encoding="utf-8"))
        if path != LIBRARY / PORT
    }


def test_the_port_alone_comes_to_the_machine() -> None:
    assert found_in_the_rooms() - EXCEPTIONS.keys() == set()


def test_each_exception_is_needed() -> None:
    assert EXCEPTIONS.keys() - found_in_the_rooms() == set()


def test_the_port_itself_would_be_found() -> None:
    source = (LIBRARY / PORT).read_text(encoding="utf-8")

    assert {"random", "select", "socket", "ssl", "time", "threading.Lock"} <= uses(source)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", {"time"}),
        ("import time as clock\nclock.sleep(1)", {"time"}),
        ("from time import sleep", {"time"}),
        ("def late() -> None:\n    from random import random", {"random"}),
        ("import threading\nlock = threading.Lock()", {"threading.Lock"}),
        ("import threading as t\nself.lock = t.RLock()", {"threading.RLock"}),
        ("from threading import Event as Flag\n", {"threading.Event"}),
        ("import threading\nlock: object = threading.Lock()", {"threading.Lock"}),
        ("import threading\ndef make(kind=threading.Thread): ...", {"threading.Thread"}),
        ("import threading\nclass Mine(threading.Thread): ...", {"threading.Thread"}),
        ("from datetime import datetime\ndatetime.now()", {"datetime.datetime.now"}),
        ("import datetime\ndatetime.datetime.utcnow()", {"datetime.datetime.utcnow"}),
        ("import uuid\nuuid.uuid4()", {"uuid.uuid4"}),
        ("from uuid import uuid4", {"uuid.uuid4"}),
        ("import os\nos.urandom(16)", {"os.urandom"}),
        ("import os.path\nos.urandom(16)", {"os.urandom"}),
        ("from queue import SimpleQueue", {"queue"}),
        ("import threading\ndef of(lock: threading.Lock) -> threading.Lock: ...", set()),
        ("import threading\nlock: threading.Lock", set()),
        ("import threading\nlocal = threading.local()\nthreading.get_ident()", set()),
        ("from datetime import datetime\ndatetime.fromisoformat(text)", set()),
        ("import os\nos.environ", set()),
        ("def f(time): return time.time()", set()),
    ],
)
def test_uses_are_found_under_whatever_name_they_are_imported(source: str, found: set[str]) -> None:
    assert uses(source) == found

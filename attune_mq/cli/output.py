"""How commands write: text that cannot move the cursor, objects as JSON, a progress bar."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from attune_mq.broker.report import Conflict, Extra, Ignored, Outcome, Step
    from attune_mq.topology.declaration import Declaration
    from attune_mq.topology.source import Where

REDRAW_S = 0.1
MAX_BAR_WIDTH = 40
QUIET, STRONG, RED, YELLOW = "2", "1", "31;1", "33;1"


class Styled(NamedTuple):
    """Text in a style of the terminal: the parameters of SGR, such as ``31;1``."""

    text: str
    style: str


def printable(text: str) -> str:
    """``text`` with its non-printable characters escaped: a name on a broker may hold anything."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def relative(where: Where) -> Where:
    """``where`` with its file relative to the working directory, if it is below that."""
    path = Path(where.file)
    if not path.is_absolute() or not path.is_relative_to(Path.cwd()):
        return where
    return where._replace(file=os.path.relpath(path))


def place(where: Where) -> str:
    """``topology.yaml:14``."""
    file = relative(where).file
    return f"{file}:{where.line}" if where.line else file


def title(declaration: Declaration) -> str:
    return f"{declaration.kind} {declaration.name}"


def difference_as_json(one: Conflict | Ignored) -> dict[str, Any]:
    return {
        "field": one.field,
        "expected": one.expected,
        "found": one.found,
        "where": one.where._asdict(),
    }


def object_as_json(one: Outcome | Step | Extra) -> dict[str, Any]:
    """What a comparison or a set-up found of one object."""
    from attune_mq.broker import report

    named = {"kind": one.declaration.kind, "name": one.declaration.name}
    match one:
        case report.Conflict() | report.Ignored():
            return named | difference_as_json(one)
        case report.Refused(permission=permission, detail=detail):
            return named | {"permission": permission, "detail": detail}
        case report.Unknown(why=why, detail=detail):
            return named | {"why": why, "detail": detail}
        case report.Invalid(detail=detail) | report.Missing(detail=detail):
            return named | {"detail": detail}
        case (
            report.Create()
            | report.Created()
            | report.Ensured()
            | report.Unchanged()
            | report.Extra()
        ):
            return named


class ProgressBar:
    """One line on standard error that redraws itself, if that is a terminal; ``close`` erases it.

    ``update`` is cheap enough to be called for each message.
    """

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._drawn: str | None = None
        self._drawn_at = 0.0

    def update(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        is_due = self._drawn != what or now - self._drawn_at >= REDRAW_S or done == total
        if self._is_shown and is_due:
            self._drawn, self._drawn_at = what, now
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
            self._write(_bar(printable(what), done, total, columns))

    def close(self) -> None:
        if self._drawn is not None:
            self._write("")
            self._drawn = None

    def _write(self, line: str) -> None:
        sys.stderr.write(f"\r{line}\033[K")
        sys.stderr.flush()


def _bar(what: str, done: int, total: int, columns: int) -> str:
    counts = f"{done}/{total}"
    width = min(MAX_BAR_WIDTH, columns - len(what) - len(counts) - 5)
    if width < 5:
        return counts[: max(0, columns - 1)]
    filled = width * done // max(1, total)
    return f"{what} [{'#' * filled}{'.' * (width - filled)}] {counts}"

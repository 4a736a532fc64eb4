"""Show depth, consumers and dead letters of each queue in the file, how they change, and problems.
Exit code 1: there are problems. With --management-url also consumer tags and instances of
families."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, NoReturn

from attune_mq.broker.status import SAMPLES, QueueObserver, QueueReport, QueueStatus
from attune_mq.cli.context import Context, add_selection, selected
from attune_mq.cli.output import QUIET, RED, counted, printable
from attune_mq.errors import BrokerUnavailable, InvalidInput
from attune_mq.exit_codes import EXIT_FINDINGS, EXIT_OK

BETWEEN_SAMPLES_S = 0.5
DEFAULT_INTERVAL_S = 2.0
NARROWEST_NAME = 16
GAP = "  "
PLAIN = ""

_ENTER_SCREEN, _LEAVE_SCREEN = "\033[?1049h\033[?25l\033[?7l", "\033[?7h\033[?25h\033[?1049l"
"""The terminal's alternate screen, without cursor and line wrap; and all of that undone."""
_TOP, _REST_OF_LINE, _REST_OF_SCREEN = "\033[H", "\033[K", "\033[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add = parser.add_argument
    add("--watch", action="store_true", help="refresh until interrupted")
    interval = f"seconds between refreshes (default: {DEFAULT_INTERVAL_S:g})"
    add("--interval", metavar="SECONDS", type=float, default=DEFAULT_INTERVAL_S, help=interval)


def run(arguments: argparse.Namespace, context: Context) -> int:
    if not 0.1 <= arguments.interval <= 3600:
        raise InvalidInput(f"--interval: expected 0.1 to 3600 seconds, got {arguments.interval:g}")
    topology = selected(arguments, context)
    with closing(QueueObserver(topology, context.broker(), context.management_url)) as observer:
        if arguments.watch:
            _watch(observer, context, arguments.interval)
        return _once(observer, context)


def as_json(report: QueueReport) -> dict[str, Any]:
    return {
        "queues": [_queue(one) for one in report.queues],
        "source": report.source,
        "unseen": list(report.unseen),
    }


def _queue(status: QueueStatus) -> dict[str, Any]:
    queue = status.queue
    return {
        "queue": queue.name,
        "messages": queue.messages,
        "consumers": queue.consumers,
        "unacknowledged": queue.unacknowledged,
        "tags": queue.consumer_tags,
        "dead_letters": status.dead_letters,
        "waiting": status.waiting,
        "published_per_s": queue.published_per_s,
        "delivered_per_s": queue.delivered_per_s,
        "change_per_s": queue.depth_change_per_s,
        "problems": status.problems,
    }


def _once(observer: QueueObserver, context: Context) -> int:
    for _ in range(SAMPLES - 1):
        observer.sample_depths()
        _wait(BETWEEN_SAMPLES_S)
    report = observer.poll()
    if context.is_json:
        context.emit(as_json(report))
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(*table(report, columns, is_coloured=context.is_coloured), sep="\n")
    return EXIT_FINDINGS if report.is_wrong else EXIT_OK


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _watch(observer: QueueObserver, context: Context, interval_s: float) -> NoReturn:
    """Until Ctrl-C or SIGTERM. A broker that is unavailable at first is an error; one that becomes
    unavailable is shown as such and polled again."""
    report, failure = observer.poll(), ""
    with _display(context) as show:
        while True:
            show(report, failure)
            _wait(interval_s)
            try:
                report, failure = observer.poll(), ""
            except BrokerUnavailable as error:
                failure = f"{error}; trying again"


Show = Callable[[QueueReport, str], None]
"""Shows the latest report, and why there is no newer one, if so."""


@contextmanager
def _display(context: Context) -> Iterator[Show]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if context.is_json:
            yield partial(_show_json, context)
        elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            with closing(_Screen(context)) as screen:
                yield screen.show
        else:
            yield partial(_show_text, context)
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_json(context: Context, report: QueueReport, failure: str) -> None:
    context.emit_line({"error": failure} if failure else as_json(report))
    sys.stdout.flush()


def _show_text(context: Context, report: QueueReport, failure: str) -> None:
    print(_head(context), *([failure] if failure else table(report, None)), "", sep="\n")
    sys.stdout.flush()


def _head(context: Context) -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}  {context.broker()}"


class _Screen:
    """The alternate screen, redrawn by each report. ``close`` restores the terminal and prints the
    last report below what it showed before."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: tuple[QueueReport, str] | None = None
        self._write(_ENTER_SCREEN)

    def show(self, report: QueueReport, failure: str) -> None:
        self._last = (report, failure)
        size = shutil.get_terminal_size()
        lines = clipped(self._lines(report, failure, size.columns), size.lines)
        self._write(_TOP + "\n".join(line + _REST_OF_LINE for line in lines) + _REST_OF_SCREEN)

    def close(self) -> None:
        self._write(_LEAVE_SCREEN)
        if self._last is not None:
            columns = shutil.get_terminal_size().columns
            self._write("\n".join(self._lines(*self._last, columns)) + "\n")

    def _lines(self, report: QueueReport, failure: str, columns: int) -> list[str]:
        heads = [_head(self._context), *([failure] if failure else [])]
        wrapped = [line for text in heads for line in textwrap.wrap(text, max(1, columns))]
        return [*wrapped, *table(report, columns, is_coloured=self._context.is_coloured)]

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class _Column(NamedTuple):
    """``rank``: where there is no room, columns of a higher rank are dropped first."""

    head: str
    value: Callable[[QueueStatus], int | float | None]
    rank: int


_COLUMNS = (
    _Column("ready", lambda one: one.queue.messages, 0),
    _Column("unacked", lambda one: one.queue.unacknowledged, 4),
    _Column("cons", lambda one: one.queue.consumers, 1),
    _Column("dead", lambda one: one.dead_letters, 2),
    _Column("retry", lambda one: one.waiting, 5),
    _Column("in/s", lambda one: one.queue.published_per_s, 6),
    _Column("out/s", lambda one: one.queue.delivered_per_s, 7),
    _Column("+/s", lambda one: one.queue.depth_change_per_s, 3),
)
"""``+/s`` is the change of depth."""


def table(report: QueueReport, columns: int | None, *, is_coloured: bool = False) -> list[str]:
    """Its lines, none longer than ``columns`` (``None``: unlimited). The problems of a queue stand
    below it."""
    return list(_Table(report, columns, is_coloured).lines())


class _Table:
    def __init__(self, report: QueueReport, columns: int | None, is_coloured: bool) -> None:
        self._report = report
        self._columns = columns
        self._is_coloured = is_coloured
        self._cells = {
            column: [_cell(column.value(one)) for one in report.queues]
            for column in _COLUMNS
            if column.rank < 2 or any(column.value(one) is not None for one in report.queues)
        }
        self._name_width = max((len(one.queue.name) for one in report.queues), default=0)
        if columns is not None:
            self._fit(columns)

    def _fit(self, columns: int) -> None:
        narrowest = min(self._name_width, NARROWEST_NAME)
        while self._cells and self._room(columns) < narrowest:
            del self._cells[max(self._cells, key=lambda column: column.rank)]
        self._name_width = max(1, min(self._name_width, self._room(columns)))

    def _room(self, columns: int) -> int:
        """For the name, beside the mark and the columns that are left."""
        return columns - 2 - sum(len(GAP) + self._width(column) for column in self._cells)

    def _width(self, column: _Column) -> int:
        return max(len(column.head), *map(len, self._cells[column]), 0)

    def lines(self) -> Iterator[str]:
        heads = [f"{column.head:>{self._width(column)}}" for column in self._cells]
        yield self._line(PLAIN, "  " + GAP.join([" " * self._name_width, *heads]))
        for index, one in enumerate(self._report.queues):
            yield from self._row(index, one)
        with_problems = sum(1 for one in self._report.queues if one.problems)
        of = f" of {counted(len(self._report.queues), 'queue')}"
        summary = f"problems in {with_problems}{of}" if with_problems else "no problems"
        yield from self._paragraph(PLAIN, summary, "")
        for sentence in self._report.unseen:
            yield from self._paragraph(QUIET, sentence, "")

    def _row(self, index: int, one: QueueStatus) -> Iterator[str]:
        cells = [f"{cells[index]:>{self._width(column)}}" for column, cells in self._cells.items()]
        name = _shortened(printable(one.queue.name), self._name_width)
        style, mark = (RED, "! ") if one.problems else (PLAIN, "  ")
        yield self._line(style, mark + GAP.join([f"{name:<{self._name_width}}", *cells]))
        for problem in one.problems:
            yield from self._paragraph(RED, problem, "    ")
        if one.queue.consumer_tags:
            yield from self._paragraph(QUIET, ", ".join(one.queue.consumer_tags), "    ")

    def _paragraph(self, style: str, text: str, indent: str) -> Iterator[str]:
        text = printable(text)
        if self._columns is None:
            yield self._line(style, indent + text)
            return
        width = max(len(indent) + 1, self._columns)
        for line in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent):
            yield self._line(style, line)

    def _line(self, style: str, text: str) -> str:
        text = text.rstrip()[: self._columns]
        return f"\033[{style}m{text}\033[0m" if self._is_coloured and style and text else text


def _cell(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{round(value, 1) + 0.0:.1f}" if isinstance(value, float) else str(value)


def _shortened(name: str, width: int) -> str:
    """The end of a name is more specific than its beginning."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def clipped(lines: Sequence[str], rows: int) -> list[str]:
    """At most as many lines as a terminal has rows; the last counts those that are missing."""
    if len(lines) <= rows:
        return list(lines)
    kept = max(0, rows - 1)
    return [*lines[:kept], f"… {len(lines) - kept} more lines"][:rows]

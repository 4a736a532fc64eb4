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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from attune_mq.broker.observer import LOOKS, QueueObserver
from attune_mq.broker.queue_status import Picture
from attune_mq.cli.context import Context, add_selection, selected
from attune_mq.cli.status_table import clipped, table
from attune_mq.errors import BrokerUnavailable, InvalidInput
from attune_mq.exit_codes import EXIT_FINDINGS, EXIT_OK

BETWEEN_LOOKS_S = 0.5
DEFAULT_INTERVAL_S = 2.0

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


def as_json(report: Picture) -> dict[str, Any]:
    return {
        "queues": [asdict(queue) for queue in report.queues],
        "source": report.source,
        "unseen": list(report.unseen),
    }


def _once(observer: QueueObserver, context: Context) -> int:
    for _ in range(LOOKS - 1):
        observer.glance()
        _wait(BETWEEN_LOOKS_S)
    report = observer.look()
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
    report, failure = observer.look(), ""
    with _display(context) as show:
        while True:
            show(report, failure)
            _wait(interval_s)
            try:
                report, failure = observer.look(), ""
            except BrokerUnavailable as error:
                failure = f"{error}; trying again"


Show = Callable[[Picture, str], None]
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


def _show_json(context: Context, report: Picture, failure: str) -> None:
    context.emit_line({"error": failure} if failure else as_json(report))
    sys.stdout.flush()


def _show_text(context: Context, report: Picture, failure: str) -> None:
    print(_head(context), *([failure] if failure else table(report, None)), "", sep="\n")
    sys.stdout.flush()


def _head(context: Context) -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}  {context.broker()}"


class _Screen:
    """The alternate screen, redrawn by each report. ``close`` restores the terminal and prints the
    last report below what it showed before."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: tuple[Picture, str] | None = None
        self._write(_ENTER_SCREEN)

    def show(self, report: Picture, failure: str) -> None:
        self._last = (report, failure)
        size = shutil.get_terminal_size()
        lines = clipped(self._lines(report, failure, size.columns), size.lines)
        self._write(_TOP + "\n".join(line + _REST_OF_LINE for line in lines) + _REST_OF_SCREEN)

    def close(self) -> None:
        self._write(_LEAVE_SCREEN)
        if self._last is not None:
            columns = shutil.get_terminal_size().columns
            self._write("\n".join(self._lines(*self._last, columns)) + "\n")

    def _lines(self, report: Picture, failure: str, columns: int) -> list[str]:
        heads = [_head(self._context), *([failure] if failure else [])]
        wrapped = [line for text in heads for line in textwrap.wrap(text, max(1, columns))]
        return [*wrapped, *table(report, columns, is_coloured=self._context.is_coloured)]

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

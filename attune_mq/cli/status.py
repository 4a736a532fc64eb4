"""``attune-mq status``: what goes on in each queue, and what is wrong, once or for ever."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from attune_mq.broker.status import SAMPLES, QueueObserver, QueueReport, QueueStatus
from attune_mq.cli.context import FOUND, OK, Context
from attune_mq.cli.selection import add_selection, selected
from attune_mq.cli.status_table import clipped, table
from attune_mq.errors import BrokerUnavailable, InvalidInput

SUMMARY = (
    "Say how many messages, consumers and dead letters each queue of the file has, how that "
    "changes, and what is wrong. Exits 1 when something is. With --management-url it names the "
    "consumers, and sees instances of families too."
)
BETWEEN_SAMPLES_S = 0.5
DEFAULT_INTERVAL_S = 2.0

_OWN_SCREEN, _BACK = "\033[?1049h\033[?25l\033[?7l", "\033[?7h\033[?25h\033[?1049l"
"""The terminal's other screen, with neither cursor nor wrapped lines; and all of that undone."""
_TOP, _REST_OF_LINE, _REST_OF_SCREEN = "\033[H", "\033[K", "\033[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--watch", action="store_true", help="refresh until interrupted (Ctrl-C)")
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_INTERVAL_S,
        help=f"with --watch, between two refreshes (default: {DEFAULT_INTERVAL_S:g})",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    if not 0.1 <= arguments.interval <= 3600:
        raise InvalidInput(f"--interval: expected 0.1 to 3600 seconds, got {arguments.interval:g}")
    topology = selected(context.topology(), arguments)
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
        for line in table(report, columns, is_coloured=context.is_coloured):
            context.line(line)
    return FOUND if report.is_wrong else OK


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _watch(observer: QueueObserver, context: Context, interval_s: float) -> NoReturn:
    """Until Ctrl-C or SIGTERM. A broker that does not answer the first poll is an error; later
    that is said, and the broker polled again."""
    report, trouble = observer.poll(), ""
    with _display(context) as show:
        while True:
            show(report, trouble)
            _wait(interval_s)
            try:
                report, trouble = observer.poll(), ""
            except BrokerUnavailable as error:
                trouble = f"{error}; trying again"


Show = Callable[[QueueReport, str], None]
"""Shows the last report, and why there is no newer one, if so."""


@contextmanager
def _display(context: Context) -> Iterator[Show]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if context.is_json:
            yield partial(_show_json, context)
        elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            screen = _Screen(context)
            with closing(screen):
                yield screen.show
        else:
            yield partial(_show_text, context)
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_json(context: Context, report: QueueReport, trouble: str) -> None:
    """A document a line."""
    value = {"error": trouble} if trouble else as_json(report)
    context.line(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()


def _show_text(context: Context, report: QueueReport, trouble: str) -> None:
    for line in [_head(context), *([trouble] if trouble else table(report, None)), ""]:
        context.line(line)
    sys.stdout.flush()


def _head(context: Context) -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}  {context.broker()}"


class _Screen:
    """A terminal that is drawn over. In the end it shows what it did before, and the last report
    below that."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: tuple[QueueReport, str] | None = None
        self._write(_OWN_SCREEN)

    def show(self, report: QueueReport, trouble: str) -> None:
        self._last = (report, trouble)
        size = shutil.get_terminal_size()
        lines = clipped(self._lines(size.columns), size.lines)
        self._write(_TOP + "\n".join(line + _REST_OF_LINE for line in lines) + _REST_OF_SCREEN)

    def close(self) -> None:
        self._write(_BACK)
        if self._last is not None:
            self._write("\n".join(self._lines(shutil.get_terminal_size().columns)) + "\n")

    def _lines(self, columns: int) -> list[str]:
        assert self._last is not None
        report, trouble = self._last
        told = [_head(self._context), *([trouble] if trouble else [])]
        head = [line for text in told for line in textwrap.wrap(text, max(1, columns))]
        return [*head, *table(report, columns, is_coloured=self._context.is_coloured)]

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

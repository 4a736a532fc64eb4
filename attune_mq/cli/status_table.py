"""A report on the queues as a table that fits a terminal, down to 40 columns and less. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from attune_mq.broker.status import QueueReport, QueueStatus
from attune_mq.cli.objects import printable

NARROWEST_NAME = 16
GAP = "  "
WRONG, QUIET, PLAIN = "31;1", "2", ""


class _Column(NamedTuple):
    """``rank``: columns of a higher one go first where there is no room."""

    head: str
    value: Callable[[QueueStatus], int | float | None]
    rank: int


_COLUMNS = (
    _Column("ready", lambda one: one.queue.messages, 0),
    _Column("held", lambda one: one.queue.unacknowledged, 4),
    _Column("cons", lambda one: one.queue.consumers, 1),
    _Column("dead", lambda one: one.dead_letters, 2),
    _Column("retry", lambda one: one.waiting, 5),
    _Column("in/s", lambda one: one.queue.published_per_s, 6),
    _Column("out/s", lambda one: one.queue.delivered_per_s, 7),
    _Column("+/s", lambda one: one.queue.depth_change_per_s, 3),
)
"""``+/s`` is the change of depth."""


def table(report: QueueReport, columns: int | None, *, is_coloured: bool = False) -> list[str]:
    """Its lines, none longer than ``columns``; ``None`` is without bound. Below a queue stands what
    is wrong with it."""
    shown = _Table(report, columns, is_coloured)
    return list(shown.lines())


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
        self._fit()

    def _fit(self) -> None:
        longest = max((len(one.queue.name) for one in self._report.queues), default=0)
        if self._columns is None:
            self._name_width = longest
            return
        narrowest = min(longest, NARROWEST_NAME)
        while self._cells and self._room() < narrowest:
            del self._cells[max(self._cells, key=lambda column: column.rank)]
        self._name_width = max(1, min(longest, self._room()))

    def _room(self) -> int:
        """For the name, beside the mark and the columns that are left."""
        assert self._columns is not None
        return self._columns - 2 - sum(len(GAP) + self._width(column) for column in self._cells)

    def _width(self, column: _Column) -> int:
        return max(len(column.head), *map(len, self._cells[column]), 0)

    def lines(self) -> Iterator[str]:
        heads = [f"{column.head:>{self._width(column)}}" for column in self._cells]
        yield self._line(PLAIN, "  " + GAP.join([" " * self._name_width, *heads]))
        for index, one in enumerate(self._report.queues):
            yield from self._row(index, one)
        yield from self._paragraph(PLAIN, self._summary(), "")
        for sentence in self._report.unseen:
            yield from self._paragraph(QUIET, sentence, "")

    def _summary(self) -> str:
        queues = self._report.queues
        wrong = sum(1 for one in queues if one.problems)
        return f"something is wrong with {wrong} of {len(queues)}" if wrong else "nothing is wrong"

    def _row(self, index: int, one: QueueStatus) -> Iterator[str]:
        cells = [f"{cells[index]:>{self._width(column)}}" for column, cells in self._cells.items()]
        name = _shortened(printable(one.queue.name), self._name_width)
        colour = WRONG if one.problems else PLAIN
        mark = "! " if one.problems else "  "
        yield self._line(colour, mark + GAP.join([f"{name:<{self._name_width}}", *cells]))
        for problem in one.problems:
            yield from self._paragraph(WRONG, problem, "    ")
        if one.queue.consumer_tags:
            yield from self._paragraph(QUIET, ", ".join(one.queue.consumer_tags), "    ")

    def _paragraph(self, colour: str, text: str, indent: str) -> Iterator[str]:
        text = printable(text)
        if self._columns is None:
            yield self._line(colour, indent + text)
            return
        width = max(len(indent) + 1, self._columns)
        for line in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent):
            yield self._line(colour, line)

    def _line(self, colour: str, text: str) -> str:
        text = text.rstrip()[: self._columns]
        return f"\033[{colour}m{text}\033[0m" if self._is_coloured and colour and text else text


def _cell(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{round(value, 1) + 0.0:.1f}" if isinstance(value, float) else str(value)


def _shortened(name: str, width: int) -> str:
    """The end of a name tells more than its beginning."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def clipped(lines: Sequence[str], rows: int) -> list[str]:
    """No more lines than a terminal has rows, and how many are missing."""
    if len(lines) <= rows:
        return list(lines)
    kept = max(0, rows - 1)
    return [*lines[:kept], f"… {len(lines) - kept} more lines"][:rows]

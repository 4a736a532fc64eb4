"""A report on queues as a table that fits a terminal, down to 40 columns and less. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from attune_mq.broker.queue_status import Picture, QueueStatus
from attune_mq.cli.output import QUIET, RED, counted, printable

NARROWEST_NAME = 16
GAP = "  "
PLAIN = ""


class _Column(NamedTuple):
    """``rank``: where there is no room, columns of a higher rank are dropped first."""

    head: str
    value: Callable[[QueueStatus], int | float | None]
    rank: int


_COLUMNS = (
    _Column("ready", lambda one: one.messages, 0),
    _Column("unacked", lambda one: one.unacknowledged, 4),
    _Column("cons", lambda one: one.consumers, 1),
    _Column("dead", lambda one: one.dead_letters, 2),
    _Column("retry", lambda one: one.waiting, 5),
    _Column("in/s", lambda one: one.published_per_s, 6),
    _Column("out/s", lambda one: one.delivered_per_s, 7),
    _Column("+/s", lambda one: one.change_per_s, 3),
)
"""``+/s`` is the change of depth."""


def table(report: Picture, columns: int | None, *, is_coloured: bool = False) -> list[str]:
    """Its lines, none longer than ``columns`` (``None``: unlimited). The problems of a queue stand
    below it."""
    return list(_Table(report, columns, is_coloured).lines())


class _Table:
    def __init__(self, report: Picture, columns: int | None, is_coloured: bool) -> None:
        self._report = report
        self._columns = columns
        self._is_coloured = is_coloured
        self._cells = {
            column: [_cell(column.value(one)) for one in report.queues]
            for column in _COLUMNS
            if column.rank < 2 or any(column.value(one) is not None for one in report.queues)
        }
        self._name_width = max((len(one.queue) for one in report.queues), default=0)
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
        name = _shortened(printable(one.queue), self._name_width)
        style, mark = (RED, "! ") if one.problems else (PLAIN, "  ")
        yield self._line(style, mark + GAP.join([f"{name:<{self._name_width}}", *cells]))
        for problem in one.problems:
            yield from self._paragraph(RED, problem, "    ")
        if one.tags:
            yield from self._paragraph(QUIET, ", ".join(one.tags), "    ")

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

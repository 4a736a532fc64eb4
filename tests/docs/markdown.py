"""Reading our own documents: their fenced blocks and their tables, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"

_FENCE = re.compile(r"```(\w+)?\s*(.*)")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_HEADING = re.compile(r"(#+) (.+)")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``title`` is that of its info string: ```` ```python title="x.py" ````."""

    language: str
    title: str
    text: str
    line: int
    heading: str


@dataclass(frozen=True)
class Table:
    """A table, its rows as mappings from the header's words to the cells' text."""

    heading: str
    rows: tuple[Mapping[str, str], ...]
    line: int


@dataclass
class Page:
    """One document of ``docs/``, or a text as if it were one."""

    name: str
    text: str
    blocks: list[Block] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        heading = ""
        lines = enumerate(self.text.splitlines(), start=1)
        rows: list[tuple[int, str]] = []
        for number, line in lines:
            if not line.startswith("|") and rows:
                self.tables.append(_table(heading, rows))
                rows = []
            if fence := _FENCE.match(line):
                self.blocks.append(_block(fence, number, heading, lines))
            elif title := _HEADING.match(line):
                heading = title[2]
                self.headings.append(heading)
            elif line.startswith("|"):
                rows.append((number, line))
        if rows:
            self.tables.append(_table(heading, rows))

    def blocks_of(self, language: str) -> list[Block]:
        return [block for block in self.blocks if block.language == language]

    def rows_under(self, heading: str) -> tuple[Mapping[str, str], ...]:
        """The rows of all tables under one heading."""
        return tuple(row for one in self.tables if one.heading == heading for row in one.rows)


def page(name: str) -> Page:
    return Page(name, (DOCS / name).read_text(encoding="utf-8"))


def code_names(cell: str) -> list[str]:
    """What stands in backquotes in a cell: `` `a`, `b` `` is ``["a", "b"]``."""
    return re.findall(r"`([^`]+)`", cell)


def _block(
    fence: re.Match[str], number: int, heading: str, lines: Iterator[tuple[int, str]]
) -> Block:
    inside: list[str] = []
    for _, line in lines:
        if line.startswith("```"):
            break
        inside.append(line)
    attributes = dict(_ATTRIBUTE.findall(fence[2]))
    text = "".join(f"{line}\n" for line in inside)
    return Block(fence[1] or "", attributes.get("title", ""), text, number, heading)


def _table(heading: str, rows: list[tuple[int, str]]) -> Table:
    header, _, *body = [_cells(text) for _, text in rows]
    mappings = tuple(dict(zip(header, cells, strict=True)) for cells in body)
    return Table(heading, mappings, rows[0][0])


def _cells(row: str) -> list[str]:
    inner = _CELL_BORDER.split(row.strip())[1:-1]
    return [cell.strip().replace(r"\|", "|") for cell in inner]

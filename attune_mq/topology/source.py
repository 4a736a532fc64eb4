"""Where in a file a thing was written, and what is wrong there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from attune_mq.errors import InvalidInput

Path = tuple[str | int, ...]
"""The keys from the top of the file to a value: ``("queues", "events", "ttl")``."""


class Where(NamedTuple):
    """A place in a file. ``line`` and ``column`` count from 1; 0 means that there is no text."""

    file: str
    line: int
    column: int
    path: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place} {self.path}".rstrip()


class Position(NamedTuple):
    line: int
    column: int


def path_text(path: Path) -> str:
    """``("bindings", 2, "source")`` as people read it: ``bindings[2].source``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            written = step if re.fullmatch(r"[\w{}-]+", step) else f'"{step}"'
            text += f".{written}" if text else written
    return text


@dataclass(frozen=True, eq=False)
class SourceMap:
    """Positions by path. Two topologies that say the same are equal wherever they were written,
    so all source maps compare equal.

    ``origins`` maps the path of a thing that the library added, or that was instantiated from
    a family, to the path of what was written and led to it.
    """

    file: str = "<topology>"
    positions: Mapping[Path, Position] = field(default_factory=dict)
    origins: Mapping[Path, Path] = field(default_factory=dict)
    text: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceMap)

    def __hash__(self) -> int:
        return hash(SourceMap)

    def where(self, *path: str | int) -> Where:
        """The place of ``path``, or of the nearest thing around it that was written down."""
        written = self._written(path)
        near = written
        while near and near not in self.positions:
            near = near[:-1]
        line, column = self.positions.get(near, Position(0, 0))
        return Where(self.file, line, column, path_text(written))

    def derived(self, origins: Mapping[Path, Path]) -> SourceMap:
        """The same file, with the paths of further things traced to what led to them."""
        traced = {path: self._written(origin) for path, origin in origins.items()}
        return SourceMap(self.file, self.positions, {**self.origins, **traced}, self.text)

    def _written(self, path: Path) -> Path:
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin is not None:
                return origin + path[length:]
        return path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file: where, what was expected, what was found, what to do."""

    where: Where
    expected: str
    found: str
    hint: str | None = None

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.where}: expected {self.expected}, got {self.found}{hint}"


class InvalidTopology(InvalidInput):
    """A topology file says something that cannot be meant. ``problems`` holds all of it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.where[:3]))
        super().__init__("\n".join(str(problem) for problem in self.problems))

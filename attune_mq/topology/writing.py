"""A topology as YAML that a person likes to read, and that loads again to an equal topology."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attune_mq.topology.document import VARIABLE
from attune_mq.topology.model import Topology
from attune_mq.topology.source import Path

WIDTH = 100
"""Longest line. An entry that does not fit is written over several."""
_STEP = "  "
_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_./{}-]*(?: \+ [0-9]+)?|[1-9][0-9]*(?:ms|s|m|h|d)|0ms")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Texts that some reader takes for something else."""
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_NO_COMMENTS: Mapping[Path, str] = {}


def write_topology(
    topology: Topology, *, comments: Mapping[Path, str] = _NO_COMMENTS, header: str = ""
) -> str:
    """YAML text that :func:`~attune_mq.topology.loading.parse_topology` reads as ``topology``.

    What is as it would be without being said is left out. ``comments`` stand above what their
    path leads to, such as ``("queues", "events")``, and ``header`` at the top; both without
    their ``#``, with as many lines as they like. A text such as ``${HOME}`` is escaped: the values
    of environment variables are what was read, not their names.
    """
    document = topology.model_dump(by_alias=True, exclude_defaults=True)
    sections = [f"version: {document.pop('version')}"]
    around = {path[:length] for path in comments for length in range(len(path))}
    writer = _Writer(comments, frozenset(around))
    sections += ("\n".join(writer.entry(name, value, (), "")) for name, value in document.items())
    top = [_comment(header, "")] if header else []
    return "\n\n".join([*top, *sections]) + "\n"


def topology_data(topology: Topology) -> dict[str, Any]:
    """A topology as plain lists and dicts, with the keys of the file and all its defaults.

    Durations are texts such as ``24h``. It is what scripts read; as a file it can be loaded, too.
    """
    data: dict[str, Any] = topology.model_dump(mode="json", by_alias=True)
    for block in (data, *data["families"].values()):
        for binding in block["bindings"]:  # a file says one or the other
            del binding["routing_key" if binding["routing_keys"] else "routing_keys"]
    return data


def _comment(text: str, indent: str) -> str:
    return "\n".join(f"{indent}# {line}".rstrip() for line in text.splitlines())


@dataclass(frozen=True)
class _Writer:
    comments: Mapping[Path, str]
    around: frozenset[Path]
    """Paths with a comment somewhere inside."""

    def entry(self, name: str, value: Any, path: Path, indent: str) -> Iterator[str]:
        """The lines of ``name: value``. Sections hold an entry a line, aligned."""
        here = (*path, name)
        head = f"{indent}{_text(name, in_flow=False)}:"
        if isinstance(value, Mapping) and value:
            yield head
            yield from self._mapping(value, here, indent + _STEP)
        elif isinstance(value, Sequence) and not isinstance(value, str) and value:
            if all(isinstance(item, Mapping) and item for item in value):
                yield head
                yield from self._items(value, here, indent + _STEP)
            else:
                yield from _wrapped(head, [_flow(item) for item in value], indent + _STEP)
        else:
            yield f"{head} {_flow(value, in_flow=False)}"

    def _mapping(self, value: Mapping[str, Any], path: Path, indent: str) -> Iterator[str]:
        heads = {name: f"{indent}{_text(name, in_flow=False)}:" for name in value}
        rows = {name: self._cells(inner, (*path, name)) for name, inner in value.items()}
        short = [name for name in rows if _fits(len(heads[name]) + 1, rows[name])]
        if 2 * len(short) < sum(isinstance(inner, Mapping) for inner in value.values()):
            short = []  # most take several lines: then all do
        width = max((len(heads[name]) for name in short), default=0)
        lines = dict(zip(short, _aligned([rows[name] for name in short], width + 1), strict=True))
        for name, inner in value.items():
            yield from self._comment((*path, name), indent)
            if name in lines:
                aligned = f"{heads[name]:<{width}} {lines[name]}"
                yield aligned if len(aligned) <= WIDTH else f"{heads[name]} {lines[name]}"
            else:
                yield from self.entry(name, inner, path, indent)

    def _items(self, value: Sequence[Any], path: Path, indent: str) -> Iterator[str]:
        rows = [self._cells(item, (*path, index)) for index, item in enumerate(value)]
        short = [index for index, row in enumerate(rows) if _fits(len(indent) + 2, row)]
        aligned = _aligned([rows[index] for index in short], len(indent) + 2)
        lines = dict(zip(short, aligned, strict=True))
        for index, item in enumerate(value):
            yield from self._comment((*path, index), indent)
            if index in lines:
                yield f"{indent}- {lines[index]}"
            else:
                first, *more = self._mapping(item, (*path, index), indent + _STEP)
                yield f"{indent}- {first.lstrip()}"
                yield from more

    def _cells(self, value: Any, path: Path) -> list[str]:
        """The parts of a mapping that may stand in one line; none where it may not."""
        if not isinstance(value, Mapping) or not value or path in self.around:
            return []
        return [f"{_text(name, in_flow=True)}: {_flow(inner)}" for name, inner in value.items()]

    def _comment(self, path: Path, indent: str) -> Iterator[str]:
        if path in self.comments:
            yield _comment(self.comments[path], indent)


def _flow(value: Any, *, in_flow: bool = True) -> str:
    if isinstance(value, Mapping):
        inner = (f"{_text(name, in_flow=True)}: {_flow(item)}" for name, item in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_flow(item) for item in value)}]"
    return _scalar(value, in_flow=in_flow)


def _line(row: Sequence[str]) -> str:
    return f"{{{', '.join(row)}}}"


def _fits(start: int, row: Sequence[str]) -> bool:
    return bool(row) and start + len(_line(row)) <= WIDTH


def _aligned(rows: Sequence[Sequence[str]], start: int) -> list[str]:
    """Rows of ``name: value`` as flow mappings, in columns as far as all have the same names and
    there is room."""
    for column in range(max((len(row) for row in rows), default=0) - 1):
        if len({row[column].partition(":")[0] for row in rows if len(row) > column}) > 1:
            break
        width = max(len(row[column]) for row in rows if len(row) > column + 1)
        padded = [_padded(row, column, width) for row in rows]
        if not all(_fits(start, row) for row in padded):
            break
        rows = padded
    return [_line(row) for row in rows]


def _padded(row: Sequence[str], column: int, width: int) -> Sequence[str]:
    if len(row) <= column + 1:
        return row
    space = " " * (width - len(row[column]))
    return [*row[: column + 1], space + row[column + 1], *row[column + 2 :]]


def _wrapped(head: str, items: Sequence[str], indent: str) -> Iterator[str]:
    """``head: [a, b, …]`` in one line, or in as many as it takes."""
    line = f"{head} [{', '.join(items)}]"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{head} ["
    line = indent
    for item in items:
        if len(line) + len(item) + 2 > WIDTH and line != indent:
            yield line.rstrip()
            line = indent
        line += f"{item}, "
    yield f"{line.rstrip(', ')}]"


def _scalar(value: Any, *, in_flow: bool) -> str:
    """A value, with what would be read as an environment variable escaped."""
    if isinstance(value, str):
        return _text(VARIABLE.sub(lambda variable: f"${variable[0]}", value), in_flow=in_flow)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(int(value))


def _text(text: str, *, in_flow: bool) -> str:
    """A text as it stands, or quoted where some reader would take it for something else."""
    plain = _SAFE.fullmatch(text) and text.lower() not in _WORDS
    if plain and not (in_flow and ("{" in text or "}" in text)):
        return text
    return f'"{"".join(_escaped(character) for character in text)}"'


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character.isprintable() and character != "\ufeff":
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

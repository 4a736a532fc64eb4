"""YAML text into plain values, strictly, remembering where each of them stood.

The subset of YAML 1.2 that reads the same everywhere. What readers of YAML disagree about
(``no`` as a boolean, ``24:00`` as a number, ``010`` as eight, the last of two equal keys) is a
problem with a line, never a surprise. The text is read as a stream of events with an explicit
limit of depth and size, so that no file can exhaust the stack or the memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from attune_mq.topology.source import InvalidTopology, Path, Position, Problem, SourceMap, Where

MAX_DEPTH = 40
MAX_VALUES = 2_000_000
"""Values in a file, those behind an alias counted each time that it is used."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
VARIABLE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
"""``${NAME}``, ``${NAME:-default}``, and ``$${NAME}`` for the text ``${NAME}`` itself."""
_NUMBER = "some readers take it for a number"
_TRAPS = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"(?i:yes|no|on|off|y|n)|True|TRUE|False|FALSE", "some readers take it for a boolean"),
        (r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?", f"{_NUMBER} in base 60"),
        (r"[-+]?0[0-9_]+|0o[0-7]+", f"{_NUMBER} in base 8"),
        (r"[-+]?0x[0-9a-fA-F_]+|[-+]?0b[01_]+|[-+]?[0-9][0-9_]*_[0-9_]*|\+[0-9]+", _NUMBER),
        (r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", _NUMBER),
        (r"[-+]?\.(?i:inf|nan)", _NUMBER),
        (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?", "some readers take it for a date"),
        (r"Null|NULL", "some readers take it for null"),
    )
)


class Document(NamedTuple):
    """What a text says: ``data`` of dicts, lists and scalars; ``traps`` by path, each with why
    readers would disagree about the plain scalar that stands there."""

    data: Any
    sources: SourceMap
    traps: Mapping[Path, str]
    problems: tuple[Problem, ...]


def read_document(text: str, *, file: str, environment: Mapping[str, str]) -> Document:
    """Raises :class:`InvalidTopology` where the text is no YAML at all; all else that is wrong
    is among ``problems``, beside the values that could be read."""
    reader = _Reader(file, text.split("\n"), environment)
    try:
        data = reader.read(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise InvalidTopology([_syntax_problem(error, file, text)]) from None
    except yaml.YAMLError as error:
        problem = Problem(Where(file, 1, 1, ""), "text that YAML can be read from", str(error))
        raise InvalidTopology([problem]) from None
    except _TooLarge as error:
        raise InvalidTopology([error.problem]) from None
    sources = SourceMap(file, reader.positions, text=text)
    return Document(data, sources, reader.traps, tuple(reader.problems))


def _syntax_problem(error: yaml.MarkedYAMLError, file: str, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    said = error.problem or str(error)
    error_line = "".join(text.split("\n")[line - 1 : line])
    hint = None
    if "alias" in said or "alphabetic or numeric" in said:
        hint = 'a plain text cannot start with * or &: quote it, as in "*.created"'
    elif "${" in error_line:
        hint = 'inside of { } and [ ] a variable is quoted: "${NAME}"'
    elif "cannot start any token" in said:
        hint = "quote a text that starts with one of @ ` % and indent with spaces"
    return Problem(Where(file, line, column, ""), "YAML", f"this: {said}", hint)


class _TooLarge(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Anchored(NamedTuple):
    value: Any
    values: int


@dataclass
class _Reader:
    file: str
    lines: list[str]
    environment: Mapping[str, str]
    positions: dict[Path, Position] = field(default_factory=dict)
    traps: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, _Anchored] = field(default_factory=dict)
    values: int = 0

    def read(self, events: Iterator[Any]) -> Any:
        self._events = events
        self._next()  # the start of the stream
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        data = self._value(self._next(), ())
        self._next()  # the end of the document
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._problem((), _position(after), "one document", "a second one after `---`")
        return data

    def _next(self) -> Any:
        return next(self._events)

    def _value(self, event: Any, path: Path) -> Any:
        self._count(1, path, event)
        if len(path) > MAX_DEPTH:
            self._too_large(path, event, f"{MAX_DEPTH} levels of nesting at most", "more")
        self.positions.setdefault(path, _position(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        if event.tag is not None and event.tag != "!":
            self._problem(path, _position(event), "a value without a tag", f"the tag {event.tag}")
        before = self.values
        value = self._untagged(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, self.values - before + 1)
        return value

    def _untagged(self, event: Any, path: Path) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _alias(self, event: yaml.AliasEvent, path: Path) -> Any:
        anchored = self.anchors.get(event.anchor or "")
        if anchored is None:
            hint = 'a plain text cannot start with *: quote it, as in "*.created"'
            name = f"*{event.anchor}"
            self._problem(path, _position(event), "an alias of an anchor above", name, hint)
            return None
        self._count(anchored.values, path, event)
        return anchored.value

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, position = self._key(event, path), _position(event)
            inner = (*path, key)
            if key in entries:
                first = self.positions[inner].line
                self._problem(
                    inner, position, "each key once", f"{key!r} again", f"first in line {first}"
                )
                inner = (*path, key, f"<again in line {position.line}>")
            self.positions[inner] = position
            value = self._value(self._next(), inner)
            entries.setdefault(key, value)
        return entries

    def _key(self, event: Any, path: Path) -> str:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        self._value(event, (*path, "<key>"))
        self._problem(path, _position(event), "a text as key", "a list or a mapping")
        return f"<key in line {_position(event).line}>"

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        text = self._substituted(event, path)
        if event.implicit[0]:
            return self._plain(text, path)
        if VARIABLE.fullmatch(str(event.value)):  # "${MANY:-7}" can only be quoted inside of { }
            return int(text) if _INTEGER.fullmatch(text) else text
        return text

    def _plain(self, text: str, path: Path) -> Any:
        if text in ("", "~", "null"):
            if text == "" and "#" in self._rest_of_line(path):
                self.traps[path] = 'an unquoted # begins a comment: write "#"'
            return None
        if text in ("true", "false"):
            return text == "true"
        if _INTEGER.fullmatch(text) and len(text) <= 20:
            return int(text)
        for pattern, why in _TRAPS:
            if pattern.fullmatch(text):
                self.traps[path] = f"{why}: quote it if it is meant as text"
        return text

    def _substituted(self, event: yaml.ScalarEvent, path: Path) -> str:
        text = str(event.value)
        if "${" not in text:
            return text

        def substitute(found: re.Match[str]) -> str:
            escaped, name, default = found.groups()
            if escaped:
                return found[0][1:]
            value = self.environment.get(name) or default
            if value is None:
                hint = f"set it, or give a default: ${{{name}:-…}}"
                expected = f"the environment variable {name}"
                self._problem(path, _position(event), expected, "nothing in it", hint)
                return ""
            return value

        return VARIABLE.sub(substitute, text)

    def _rest_of_line(self, path: Path) -> str:
        line, column = self.positions[path]
        return self.lines[line - 1][column - 1 :] if line <= len(self.lines) else ""

    def _count(self, values: int, path: Path, event: Any) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            self._too_large(path, event, f"{MAX_VALUES:,} values at most", "more")

    def _too_large(self, path: Path, event: Any, expected: str, found: str) -> None:
        where = SourceMap(self.file, {path: _position(event)}).where(*path[:8])
        raise _TooLarge(Problem(where, expected, found))

    def _problem(
        self, path: Path, position: Position, expected: str, found: str, hint: str | None = None
    ) -> None:
        where = SourceMap(self.file, {path: position}).where(*path)
        self.problems.append(Problem(where, expected, found, hint))


def _position(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)

"""The text of a definitions file as one JSON object, or a sentence that says why it is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attune_mq.errors import InvalidInput
from attune_mq.topology.source import Problem, Where
from attune_mq.topology.validation import shown

MAX_DEPTH = 30
"""Levels of lists and objects. RabbitMQ's own definitions have five; arguments may nest tables."""
SECTIONS = ("exchanges", "queues", "bindings")
SILENT_KEYS = frozenset(
    {
        "explanation",
        "metadata",
        "original_cluster_name",
        "original_vhost_name",
        "product_name",
        "product_version",
        "rabbit_version",
        "rabbitmq_definition_format",
        "rabbitmq_version",
    }
)
"""What a file says of itself, not of a broker."""
OTHER_KEYS = frozenset(
    {
        "global_parameters",
        "parameters",
        "permissions",
        "policies",
        "topic_permissions",
        "users",
        "vhosts",
    }
)


class InvalidDefinitions(InvalidInput):
    """What was given is no definitions JSON of RabbitMQ. ``problems`` holds all that is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def read_object(data: bytes | str, *, file: str) -> Mapping[str, Any]:
    """The JSON object that ``data`` is. A byte order mark, CRLF and UTF-16 are all right.

    Raises :class:`InvalidDefinitions` for what is empty, HTML, YAML, no JSON, no UTF-8, nested
    too deeply, or JSON that holds something else than definitions.
    """
    text = _decoded(data, file).removeprefix("\ufeff")
    _refuse_other_formats(text, file)
    top = _parsed(text, file)
    if _depth_exceeds(top, MAX_DEPTH):
        raise _invalid(file, f"{MAX_DEPTH} levels of nesting at most", "more")
    if not isinstance(top, Mapping):
        raise _invalid(file, "one JSON object with exchanges, queues and bindings", shown(top))
    known = {*SECTIONS, *SILENT_KEYS, *OTHER_KEYS}
    if not known & top.keys():
        raise _invalid(file, "RabbitMQ definitions with exchanges, queues, bindings", _held(top))
    return top


def _invalid(file: str, expected: str, found: str, hint: str | None = None) -> InvalidDefinitions:
    return InvalidDefinitions([Problem(Where(file, 0, 0, ""), expected, found, hint)])


def _decoded(data: bytes | str, file: str) -> str:
    if isinstance(data, str):
        return data
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        found = f"the byte {data[error.start]:#04x} at offset {error.start}"
        raise _invalid(file, f"JSON in {encoding.upper()}", found) from None


def _refuse_other_formats(text: str, file: str) -> None:
    expected = "RabbitMQ definitions as JSON"
    begin = text.lstrip()[:400]
    if not begin:
        raise _invalid(file, expected, "nothing: it is empty")
    if begin.startswith("<"):
        hint = "is it the answer of a proxy or of a login page, instead of the HTTP API's?"
        raise _invalid(file, expected, "HTML or XML", hint)
    if re.match(r"(#.*\s+)*[A-Za-z_]+\s*:", begin):
        raise _invalid(file, expected, "YAML", "a topology file needs no import")


def _parsed(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = Where(file, error.lineno, error.colno, "")
        raise InvalidDefinitions([Problem(where, "JSON", f"this: {error.msg}")]) from None
    except RecursionError:
        raise _invalid(file, f"{MAX_DEPTH} levels of nesting at most", "many more") from None
    except ValueError as error:  # a number of thousands of digits
        raise _invalid(file, "JSON", f"this: {error}") from None


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Without recursion, whose limit a hostile file could reach."""
    level = [value]
    for _ in range(limit + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return False
        level = inner
    return True


def _held(top: Mapping[str, Any]) -> str:
    """What an object holds that is no definitions: an error of the HTTP API, or other keys."""
    if "error" in top:
        reason = top.get("reason", top.get("error"))
        return f"an error of the HTTP API: {shown(reason)}"
    keys = ", ".join(sorted(map(str, top))[:8])
    return f"the keys {keys}" if keys else "an empty object"

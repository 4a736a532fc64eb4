"""One object of a definitions file, and its fields as they are meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attune_mq.topology.fields import MAX_NAME_BYTES
from attune_mq.topology.source import Path, Problem, Where, path_text
from attune_mq.topology.validation import shown


@dataclass(frozen=True)
class Entry:
    """``values`` stand at ``path`` of ``file``. What is wrong with them goes to ``problems``."""

    file: str
    path: Path
    values: Mapping[str, Any]
    problems: list[Problem]

    @property
    def place(self) -> str:
        return path_text(self.path)

    def wrong(self, name: str, expected: str, found: object) -> None:
        where = Where(self.file, 0, 0, path_text((*self.path, name)))
        self.problems.append(Problem(where, expected, shown(found)))

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(name, "true or false", value)
        return default

    def text(self, name: str, *, default: str | None = None) -> str | None:
        """A text that AMQP can carry as a name or key. ``None``: a problem was reported."""
        value = self.values.get(name)
        if value is None:
            value = default
        if not isinstance(value, str):
            self.wrong(name, "a text", value)
        elif len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
            self.wrong(name, f"{MAX_NAME_BYTES} bytes at most", value)
        elif has_surrogates(value):
            self.wrong(name, "a text in Unicode", ascii(value))
        else:
            return value
        return None

    def arguments(self) -> dict[str, Any]:
        """Missing, null, ``{}`` and, as PHP writes an empty table, ``[]`` are none."""
        value = self.values.get("arguments")
        if isinstance(value, Mapping):
            return dict(value)
        if value is not None and value != []:
            self.wrong("arguments", "an object", value)
        return {}


def has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def unsayable(argument: str, value: object) -> str | None:
    """Why an argument cannot be said in a topology file, if so."""
    if len(argument.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or has_surrogates(argument):
        return "AMQP cannot carry its name"
    if isinstance(value, float):
        return f"{value} (numbers are whole numbers here)"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return f"{shown(value)} (a number has 64 bits at most)"
    if value is None:
        return "null (RabbitMQ refuses to import it)"
    if isinstance(value, str):
        return "a text that is not Unicode" if has_surrogates(value) else None
    inner: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = [("", each) for each in value]
    return next(filter(None, (unsayable(name, each) for name, each in inner)), None)

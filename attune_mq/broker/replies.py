"""What RabbitMQ says when it closes a channel or a connection, as values.

The texts are those of RabbitMQ 3.10 to 4.3; what none of them matches stays as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<field>[^']+)' for (?P<kind>queue|exchange) '"
    r"(?:.*' in vhost '.*': received (?P<received>.*) but current is (?P<current>.*)$)?",
    re.DOTALL,
)
TRUNCATED = "(truncated in the broker's 255-byte reply)"
_VALUE = re.compile(r"(?:the value )?'(?P<value>.*?)'(?: of type '\w+')?$", re.DOTALL)
_REFUSED = re.compile(
    r"(?:(?P<permission>configure|write|read) )?access to (?:queue|exchange|topic) '"
)
_MISSING = re.compile(
    r"no (?P<kind>queue|exchange) '(?P<name>.*?)(?:' in vhost .*)?$",  # or truncated in the name
    re.DOTALL,
)


@dataclass(frozen=True)
class Different:
    """The object is there with other properties. RabbitMQ names the first that differs."""

    field: str
    expected: str
    found: str


@dataclass(frozen=True)
class NotPermitted:
    """``permission`` is configure, write or read; RabbitMQ before 4.0 does not say which."""

    permission: str | None
    detail: str


@dataclass(frozen=True)
class NotThere:
    kind: str
    name: str


@dataclass(frozen=True)
class Invalid:
    """The broker does not take such an object at all, from any user: a reserved name
    (403 too), an argument or a type that it does not know."""

    detail: str


Reply = Different | NotPermitted | NotThere | Invalid


def parse_reply(code: int, text: str) -> Reply:
    """The reply code and text of a ``channel.close`` or ``connection.close``."""
    if code == 404 and (missing := _MISSING.search(text)):
        return NotThere(missing["kind"], missing["name"])
    if code == 403 and (refused := _REFUSED.search(text)):
        return NotPermitted(refused["permission"], text)
    if code == 405:
        return Different("exclusive", "false", "true")
    if code == 406 and (different := _INEQUIVALENT.search(text)):
        return Different(
            different["field"], _value(different["received"]), _value(different["current"])
        )
    return Invalid(f"{code} {text}")


def _value(text: str | None) -> str:
    if text is None:
        return TRUNCATED
    written = _VALUE.match(text)
    return written["value"] if written else text

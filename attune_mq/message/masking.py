"""A message body as people may see it: its secrets masked, nothing in it that moves a cursor."""

from __future__ import annotations

import json
import re
from typing import Any

from attune_mq.message.fields import MAX_PAYLOAD_DEPTH

MASK = "**********"
_SECRET = re.compile(
    r"token|secret|passw|passphrase|credential|authorization|(api|private)[_-]?key", re.IGNORECASE
)
_NAME = r'"(?:[^"\\]|\\.){0,255}+'
"""Bounded, and without a second try, so that a body of quotes takes no time beyond its length."""
_STRING = r'"(?:[^"\\]|\\.)*+'
_MEMBER = re.compile(rf'({_NAME})("\s*+:\s*+)(?:{_STRING}(?:"|\\?$)|[^\s",\[\]{{}}]+)', re.DOTALL)
"""A name and its value in what is no JSON, such as a body that was cut off in the middle."""


def shown_body(body: bytes) -> Any:
    """The JSON value that *body* is, or else its text, without what is secret.

    Secret is what stands under a name such as ``candidate_access_token``, at any depth: a name with
    ``token``, ``secret``, ``password``, ``credential``, ``authorization``, ``api_key`` or
    ``private_key`` in it. Bytes that are no UTF-8 are shown as ``\\xff``.
    """
    text = body.decode("utf-8", "backslashreplace")
    try:
        return _masked(json.loads(text, parse_constant=_refuse), MAX_PAYLOAD_DEPTH)
    except (ValueError, RecursionError):
        return _MEMBER.sub(_masked_member, text)


def in_a_line(text: object) -> str:
    """As part of a line of a log, in any formatter: strangers choose ids and what errors quote,
    and nothing of that shall end the line, forge another, or move a cursor."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _masked(value: Any, levels: int) -> Any:
    if levels < 0:
        raise RecursionError
    match value:
        case dict():
            return {
                _writable(name): _mask(each) if _SECRET.search(name) else _masked(each, levels - 1)
                for name, each in value.items()
            }
        case list():
            return [_masked(each, levels - 1) for each in value]
        case str():
            return _writable(value)
        case _:
            return value


def _masked_member(member: re.Match[str]) -> str:
    return f'{member[1]}{member[2]}"{MASK}"' if _SECRET.search(member[1]) else member[0]


def _mask(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else MASK


def _writable(text: str) -> str:
    """JSON can hold half of a surrogate pair, which UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()

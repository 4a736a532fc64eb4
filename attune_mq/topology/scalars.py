"""Texts and numbers as YAML that every reader, and ours, reads as the same value."""

from __future__ import annotations

import re
from typing import Any

from attune_mq.topology.document import VARIABLE

_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_./{}-]*(?: \+ [0-9]+)?|[1-9][0-9]*(?:ms|s|m|h|d)|0ms")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Texts that some reader takes for something else."""
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def scalar(value: Any, *, in_flow: bool) -> str:
    """A value, with what would be read as an environment variable escaped."""
    if isinstance(value, str):
        return _text(VARIABLE.sub(lambda variable: f"${variable[0]}", value), in_flow)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(int(value))


def key(text: str, *, in_flow: bool) -> str:
    """A key of a mapping. Keys take no environment variables."""
    return _text(text, in_flow)


def _text(text: str, in_flow: bool) -> str:
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

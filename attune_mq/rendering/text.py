"""How much room text takes, without a font at hand: a little more than any usual font needs."""

from __future__ import annotations

import textwrap
import unicodedata

MONO_EM = 0.605
"""Width of a character of a monospaced font, in sizes of the font; all usual ones agree."""
SANS_EM = 0.56
"""On average, of DejaVu Sans, which is the widest of those that the picture may get."""


def mono_width(text: str, size: float) -> float:
    return _cells(text) * MONO_EM * size


def sans_width(text: str, size: float) -> float:
    return _cells(text) * SANS_EM * size


def shortened(text: str, length: int) -> str:
    """``text`` in one line and at most ``length`` characters, without its middle if need be."""
    line = "".join(character if character.isprintable() else "·" for character in text)
    if len(line) <= length:
        return line
    end = (length - 1) // 2
    return f"{line[: length - 1 - end]}…{line[-end:]}"


def listed(texts: tuple[str, ...], lines: int, length: int) -> tuple[str, ...]:
    """At most so many lines of at most such a length; the last says how many are missing."""
    shown = texts if len(texts) <= lines else texts[: lines - 1]
    more = len(texts) - len(shown)
    short = tuple(shortened(text, length) for text in shown)
    return (*short, f"and {more} more") if more else short


def wrapped(text: str, length: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), length) or [""]


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)

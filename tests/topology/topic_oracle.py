"""Topic patterns matched one by one, to compare the table that matches all at once with."""

from __future__ import annotations

ONE_WORD = "*"
ANY_WORDS = "#"

_Words = tuple[str, ...]
_Positions = frozenset[int]


def words_of(key: str) -> _Words:
    return tuple(key.split(".")) if key else ()


def matches(pattern: str, routing_key: str) -> bool:
    """Whether a topic exchange gives a message with ``routing_key`` to a binding with ``pattern``.

    Stars and hashes in the *routing key* are ordinary words.
    """
    words = words_of(pattern)
    positions = _start(words)
    for word in words_of(routing_key):
        positions = _after(words, positions, word)
    return len(words) in positions


def _start(words: _Words) -> _Positions:
    return _closed(words, {0})


def _after(words: _Words, positions: _Positions, word: str) -> _Positions:
    """Where in the pattern one may stand, one word of the key later."""
    following = set()
    for position in positions:
        if position == len(words):
            continue
        if words[position] == ANY_WORDS:
            following.add(position)
        elif words[position] in (ONE_WORD, word):
            following.add(position + 1)
    return _closed(words, following)


def _closed(words: _Words, positions: set[int]) -> _Positions:
    """With the positions after each ``#``, since it may stand for nothing."""
    closed = set(positions)
    for position in positions:
        following = position
        while following < len(words) and words[following] == ANY_WORDS:
            following += 1
            closed.add(following)
    return frozenset(closed)

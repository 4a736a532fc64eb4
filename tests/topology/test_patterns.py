"""Topic patterns, word by word. What a broker says of the same table stands in
``test_routing_against_broker.py``."""

from __future__ import annotations

import pytest

from attune_mq.topology.exchange_types import Hop, binding_table, is_wildcard
from tests.topology import topic_oracle


def matches(pattern: str, key: str) -> bool:
    table = binding_table("topic", [Hop("x", "q", "queue", "binding", pattern)])
    return bool(table.possible([key]))


@pytest.mark.parametrize(
    ("pattern", "taken", "not_taken"),
    [
        ("a.b", ["a.b"], ["", "a", "b", "a.b.c", "a.", ".a.b", "A.b"]),
        ("a.*", ["a.b", "a.", "a.*", "a.#"], ["a", "a.b.c", "b.a", "", "a.b."]),
        ("*", ["a", "*", "#", "ab"], ["", "a.b", "."]),
        ("*.*", ["a.b", ".", "a.", ".a"], ["a", "..", "a.b.c", ""]),
        ("#", ["", "a", "a.b.c", ".", "..", "#"], []),
        ("a.#", ["a", "a.b", "a.b.c", "a.", "a.."], ["", "b", "b.a", "aa"]),
        ("#.a", ["a", "b.a", ".a", "a.a"], ["", "a.b", "ba"]),
        ("a.#.b", ["a.b", "a.x.b", "a..b", "a.x.y.b"], ["a", "b", "ab", "a.b.c"]),
        ("#.#", ["", "a", "a.b"], []),
        ("#.*", ["a", "a.b", "."], [""]),
        ("", [""], ["a", ".", "*"]),
        ("a..b", ["a..b"], ["a.b", "a.x.b", "a...b"]),
        ("a#", ["a#"], ["a", "ab", "a.b"]),
        ("a*", ["a*"], ["a", "ab"]),
        ("##", ["##"], ["", "a", "#"]),
    ],
)
def test_a_pattern_takes_these_keys_and_not_those(
    pattern: str, taken: list[str], not_taken: list[str]
) -> None:
    keys = [*taken, *not_taken]
    assert [key for key in keys if matches(pattern, key)] == taken
    assert [key for key in keys if topic_oracle.matches(pattern, key)] == taken


@pytest.mark.parametrize("pattern", ["*", "#", "a.*", "#.b", "*.a.#"])
def test_a_star_or_hash_that_is_a_word_is_a_wildcard(pattern: str) -> None:
    assert is_wildcard(pattern)


@pytest.mark.parametrize("pattern", ["", "a", "a.b", "a*", "a.b#", "**", "a..b"])
def test_a_star_or_hash_within_a_word_is_none(pattern: str) -> None:
    assert not is_wildcard(pattern)


def test_many_hashes_take_no_time() -> None:
    """Alternatives multiply in a naive matcher: this one would not come back from it."""
    pattern = ".".join(["#", "a"] * 40)

    assert not matches(pattern, ".".join(["a"] * 39 + ["b"]))

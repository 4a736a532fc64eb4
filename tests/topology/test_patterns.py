"""Topic patterns, word by word. What a broker says of the same table stands in
``test_routing_against_broker.py``."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from attune_mq.topology.patterns import is_wildcard, matches, overlaps, subsumes

words = st.sampled_from(["a", "b", "", "*", "#"])
patterns = st.lists(words, max_size=3).map(".".join)
KEYS = [".".join(key) for length in range(5) for key in product(["a", "b", "", "c"], repeat=length)]
"""Every key of up to four of these words: enough to tell patterns of three words apart."""


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
    assert [key for key in [*taken, *not_taken] if matches(pattern, key)] == taken


@pytest.mark.parametrize("pattern", ["*", "#", "a.*", "#.b", "*.a.#"])
def test_a_star_or_hash_that_is_a_word_is_a_wildcard(pattern: str) -> None:
    assert is_wildcard(pattern)


@pytest.mark.parametrize("pattern", ["", "a", "a.b", "a*", "a.b#", "**", "a..b"])
def test_a_star_or_hash_within_a_word_is_none(pattern: str) -> None:
    assert not is_wildcard(pattern)


@given(patterns, patterns)
@settings(deadline=None)
def test_two_patterns_overlap_when_some_key_matches_both(one: str, other: str) -> None:
    expected = any(matches(one, key) and matches(other, key) for key in KEYS)

    assert overlaps(one, other) == overlaps(other, one) == expected


@given(patterns, patterns)
@settings(deadline=None)
def test_a_pattern_subsumes_another_when_it_matches_all_that_the_other_matches(
    general: str, specific: str
) -> None:
    expected = all(matches(general, key) for key in KEYS if matches(specific, key))

    assert subsumes(general, specific) == expected


def test_patterns_that_could_only_share_one_empty_word_share_no_key() -> None:
    """There is no such key: the empty key has no words at all."""
    assert not overlaps("#.", "*")
    assert overlaps("#.", "*.*")


def test_many_hashes_take_no_time() -> None:
    """Alternatives multiply in a naive matcher: this one would not come back from it."""
    pattern = ".".join(["#", "a"] * 40)

    assert not matches(pattern, ".".join(["a"] * 39 + ["b"]))
    assert subsumes("#.a", pattern)

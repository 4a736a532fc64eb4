"""Bytes of strangers: no error but ours, in bounded time and memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pika.data
import pytest
from hypothesis import given, settings, strategies as st

from tests.fuzzing.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FOUND = sorted(path for path in CORPUS.rglob("*") if path.is_file())
MIB = 1024 * 1024
PIECES = (b"null", b"{}", b"[]", b'"', b"*a", b"&a", b"-1", b"1e999", b"\xff", b"\0", b"${A", b"!!")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_was_found_once_does_no_harm_any_more(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def mutated(target: str) -> st.SearchStrategy[bytes]:
    """Something of the corpus, with a piece of it replaced by another."""
    seeds = [path.read_bytes() for path in FOUND if path.parent.name == target]
    piece = st.binary(max_size=20) | st.sampled_from(PIECES)

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        seed = draw(st.sampled_from(seeds))
        start = draw(st.integers(0, len(seed)))
        end = draw(st.integers(start, min(len(seed), start + 40)))
        return seed[:start] + draw(piece) + seed[end:]

    return draw_one()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nothing_but_our_own_errors_comes_of_changed_bytes(
    target: str, data: st.DataObject
) -> None:
    TARGETS[target](data.draw(mutated(target) | st.binary(max_size=200)))


def header_table(headers: dict[str, Any]) -> bytes:
    pieces: list[bytes] = []
    pika.data.encode_table(pieces, headers)
    return b"".join(pieces)[4:]


def aliases_that_explode() -> bytes:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(["version: 1", "a0: &a0 [x, x]", *levels]).encode()


LARGE = {
    "aliases that explode": ("topology", aliases_that_explode()),
    "nesting in YAML": ("topology", b"a: " + b"[" * 100_000),
    "a text of 1 MiB in YAML": ("topology", b"version: '" + b"x" * MIB + b"'"),
    "nesting in JSON": ("definitions", b"[" * 1_000_000),
    "nested arguments": (
        "definitions",
        b'{"queues": [{"name": "q", "arguments": {"x": ' + b"[" * 900 + b"]" * 900 + b"}}]}",
    ),
    "a text of 16 MiB in definitions": (
        "definitions",
        json.dumps({"queues": [{"name": "q" * 16 * MIB}]}).encode(),
    ),
    "nesting in a body": ("envelope", b'{"payload":' * 100_000),
    "a body of 16 MiB": ("envelope", json.dumps({"payload": {"text": "x" * 16 * MIB}}).encode()),
    "a body of 1 MiB that is no JSON": ("envelope", b"\xff" * MIB),
    "a body of quotes": ("envelope", b'"\\' * 100_000),
    "100,000 headers": ("headers", header_table({f"h{n}": n for n in range(100_000)})),
    "20,000 deaths": (
        "headers",
        header_table({"x-death": [{"queue": "q", "reason": "expired", "count": 1}] * 20_000}),
    ),
    "a header of 16 MiB": ("headers", header_table({"x-death": "x" * 16 * MIB})),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_or_deep_takes_memory_in_proportion(name: str) -> None:
    """Time is bounded by the suite's own limit for a test that hangs."""
    target, data = LARGE[name]

    tracemalloc.start()
    try:
        TARGETS[target](data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 48 * len(data) + 64 * MIB

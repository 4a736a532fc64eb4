"""The page about traces against the spans."""

from __future__ import annotations

import inspect

from attune_mq import tracing
from tests.docs.markdown import code_names, page

PAGE = page("tracing.md")
SOURCE = inspect.getsource(tracing)


def test_the_attributes_are_those_of_the_code() -> None:
    documented = {code_names(row["attribute"])[0] for row in PAGE.rows_under("Attributes")}
    written = {
        word
        for word in SOURCE.replace("'", '"').split('"')
        if word.startswith(("messaging.", "attune.")) or word == "error.type"
    }
    assert documented == written


def test_the_example_makes_a_service_with_traces() -> None:
    (example,) = (block.text for block in PAGE.blocks if block.language == "python")
    made: dict[str, object] = {}
    exec(compile(example, PAGE.name, "exec"), made)

    assert isinstance(made["tracing"], tracing.Tracing)

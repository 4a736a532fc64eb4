"""Rules of the house that import-linter cannot hold; its own contracts stand in pyproject.toml."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LIBRARY = "attune_mq"
PUBLIC_MODULES = {LIBRARY, f"{LIBRARY}.payloads", "yaml"}  # a service may read files of its own
EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.py"))
NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "misc", "util", "utils"}


def is_submodule_of_the_library(name: str) -> bool:
    path = REPOSITORY / LIBRARY / name
    return path.is_dir() or path.with_suffix(".py").exists()


def imported_modules(source: str) -> Iterator[str]:
    """The modules that the source imports; a relative import is named with its dots."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                submodule = origin == LIBRARY and is_submodule_of_the_library(alias.name)
                yield f"{origin}.{alias.name}" if submodule else origin


def foreign_imports(source: str) -> set[str]:
    """What an example imports beyond the standard library and the library's own exports."""
    return {
        module
        for module in imported_modules(source)
        if module not in PUBLIC_MODULES and module.partition(".")[0] not in sys.stdlib_module_names
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_gets_by_with_what_the_library_exports(example: Path) -> None:
    assert foreign_imports(example.read_text(encoding="utf-8")) == set()


def test_there_is_an_example_of_each_service_beside_the_executor() -> None:
    assert {"sensor.py", "worker.py", "notifier.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize(
    ("source", "foreign"),
    [
        ("import json, attune_mq", set()),
        ("from attune_mq import Publisher, payloads", set()),
        ("from attune_mq.payloads import EventCreated", set()),
        ("import attune_mq.amqp.connection", {"attune_mq.amqp.connection"}),
        ("from attune_mq.errors import AttuneError", {"attune_mq.errors"}),
        ("from attune_mq import publishing", {"attune_mq.publishing"}),
        ("def late():\n    import pika", {"pika"}),
        ("from attune_executor.store import Store", {"attune_executor.store"}),
        ("from .worker import run", {".worker"}),
    ],
)
def test_an_import_past_the_exports_is_found(source: str, foreign: set[str]) -> None:
    assert foreign_imports(source) == foreign


def test_no_module_has_a_name_that_says_nothing() -> None:
    modules = [
        path
        for package in (LIBRARY, "attune_executor")
        for path in (REPOSITORY / package).rglob("*")
    ]
    assert [path for path in modules if path.stem in NAMES_THAT_SAY_NOTHING] == []

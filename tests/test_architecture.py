"""Rules of the house that import-linter cannot hold; its own contracts stand in pyproject.toml."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[1]
LIBRARY = "attune_mq"
PUBLIC_MODULES = {LIBRARY, f"{LIBRARY}.payloads", "yaml"}  # a service may read files of its own
EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.py"))
PACKAGES = ("amqp", "broker", "consuming", "dead_letters", "health", "message", "migration")
FACES = [LIBRARY, *(f"{LIBRARY}.{name}" for name in (*PACKAGES, "publishing", "topology"))]
NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "misc", "util", "utils"}


def is_submodule(package: str, name: str) -> bool:
    path = REPOSITORY / package.replace(".", "/") / name
    return path.is_dir() or path.with_suffix(".py").exists()


def imported_modules(source: str) -> Iterator[str]:
    """The modules that the source imports; a relative import is named with its dots."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                submodule = origin == LIBRARY and is_submodule(LIBRARY, alias.name)
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


def room_imports_of_tests() -> list[str]:
    """Imports of tests from within a package of the library, past what the package exports."""
    return [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith(f"{LIBRARY}.")
        and (node.module or "").count(".") > 1
    ]


def test_tests_use_what_the_packages_export() -> None:
    assert len(room_imports_of_tests()) < 150


def listed_names(face: str) -> list[str]:
    """``__all__`` as a tool reads it, without running the module."""
    tree = ast.parse((REPOSITORY / face.replace(".", "/") / "__init__.py").read_text("utf-8"))
    (listed,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names = ast.literal_eval(listed)
    assert isinstance(names, list)
    return names


def searched(face: str) -> Iterator[ModuleType]:
    """The modules whose names a package passes on, by its star imports."""
    tree = ast.parse((REPOSITORY / face.replace(".", "/") / "__init__.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.names[0].name == "*":
            yield importlib.import_module(node.module)


@pytest.mark.parametrize("face", FACES)
def test_a_package_lists_each_of_its_names_once(face: str) -> None:
    names = listed_names(face)

    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if is_submodule(face, name)] == []


@pytest.mark.parametrize("face", FACES)
def test_each_listed_name_is_there(face: str) -> None:
    package = importlib.import_module(face)

    assert [name for name in listed_names(face) if not hasattr(package, name)] == []


@pytest.mark.parametrize("face", FACES)
def test_a_listed_name_means_one_thing_in_all_modules_searched_for_it(face: str) -> None:
    ambiguous = [
        name
        for name in listed_names(face)
        if len({id(vars(module)[name]) for module in searched(face) if name in vars(module)}) > 1
    ]

    assert ambiguous == []


def test_the_library_exports_some_forty_names() -> None:
    assert 35 <= len(listed_names(LIBRARY)) <= 45


def test_a_name_that_is_not_listed_is_absent_though_a_module_has_it() -> None:
    with pytest.raises(
        AttributeError, match=r"module 'attune_mq.topology' has no attribute 'Text'"
    ):
        importlib.import_module("attune_mq.topology").Text  # noqa: B018


def test_importing_the_library_imports_neither_pika_nor_pydantic() -> None:
    heavy = {"pika", "pydantic", "yaml"}
    program = f"import sys, {', '.join(FACES)}; print({heavy} & sys.modules.keys())"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "set()\n"

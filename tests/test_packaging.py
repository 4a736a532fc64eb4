"""The wheel holds all that the packages need where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*command: str, cwd: Path, **variables: str) -> str:
    """The standard output of a command that has to succeed; without the variables of our own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    done = subprocess.run(
        command, cwd=cwd, env=kept | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    run(*PIP, "wheel", *options, str(REPOSITORY), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names_in_wheel(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages in which the wheel is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("site-packages")
    run(*PIP, "install", "--no-index", "--no-deps", "--target", str(folder), str(wheel), cwd=folder)
    return folder


def relative_files(folder: str) -> set[str]:
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def test_the_wheel_holds_the_topology_word_for_word(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        packaged = archive.read("attune_mq/topology.yaml")

    assert packaged == (REPOSITORY / "topology.yaml").read_bytes()


@pytest.mark.parametrize("package", ["attune_mq", "attune_executor"])
def test_the_wheel_holds_every_file_of_the_package(package: str, names_in_wheel: set[str]) -> None:
    assert relative_files(package) - names_in_wheel == set()


def test_the_wheel_holds_the_examples_that_the_demo_runs(names_in_wheel: set[str]) -> None:
    examples = {f"attune_executor/{name}" for name in relative_files("examples")}

    assert examples
    assert examples - names_in_wheel == set()


def test_the_wheel_holds_nothing_but_the_packages_and_their_metadata(
    names_in_wheel: set[str],
) -> None:
    folders = {name.partition("/")[0] for name in names_in_wheel}

    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {
        "attune_mq",
        "attune_executor",
    }
    assert [name for name in names_in_wheel if name.endswith(".pyc")] == []


def test_the_wheel_allows_no_pika_whose_inside_may_be_another(installed: Path) -> None:
    """``attune_mq/amqp/pika_link.py`` uses names that pika keeps to itself."""
    (ours,) = metadata.distributions(name="attune-mq", path=[str(installed)])
    (allowed,) = (
        requirement.specifier
        for requirement in map(Requirement, ours.requires or ())
        if requirement.name == "pika"
    )
    tested = Version(metadata.version("pika"))

    assert tested in allowed
    assert Version(f"{tested.major}.{tested.minor + 1}") not in allowed
    assert Version(f"{tested.major + 1}") not in allowed


def test_the_installed_library_finds_the_topology_that_came_with_it(
    installed: Path, tmp_path: Path
) -> None:
    program = (
        "from attune_mq.topology_file import find_topology_file, load_topology\n"
        "load_topology()\n"
        "print(find_topology_file({}))"
    )

    found = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(installed))

    assert Path(found.strip()) == installed / "attune_mq" / "topology.yaml"


def test_the_installed_commands_and_the_pytest_plugin_lead_to_code_that_is_there(
    installed: Path, tmp_path: Path
) -> None:
    program = (
        "import importlib.metadata as metadata, sys\n"
        "(ours,) = metadata.distributions(name='attune-mq', path=[sys.argv[1]])\n"
        "for entry in ours.entry_points:\n"
        "    entry.load()\n"
        "    print(entry.group, entry.name)"
    )

    loaded = run(
        sys.executable, "-c", program, str(installed), cwd=tmp_path, PYTHONPATH=str(installed)
    )

    assert sorted(loaded.splitlines()) == [
        "console_scripts attune-executor",
        "console_scripts attune-mq",
        "pytest11 attune_mq",
    ]

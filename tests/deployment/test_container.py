"""The container file: its steps are carried out here, without a container, and what comes of them
is run by a user who may write nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deployment.files import CONTAINERFILE, ROOT, Instruction, image_environment, stages

# Somebody else, who may read what root may: Python itself may stand in a folder that is root's.
AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the image has as /opt/attune, made by the steps of the first stage."""
    folder = tmp_path_factory.mktemp("image")
    work, made = folder / "src", folder / "attune"
    work.mkdir()
    for step in stages()[0]:
        carry_out(step, work, made)
    return made


def carry_out(step: Instruction, work: Path, prefix: Path) -> None:
    match step.name:
        case "COPY":
            *sources, _ = step.words
            for source in sources:
                copy(source, work)
        case "RUN":
            environment = {**os.environ, "ATTUNE_PREFIX": str(prefix)}
            run("/bin/sh", "-euc", step.text, cwd=work, env=environment)
        case "FROM" | "ENV" | "ARG" | "WORKDIR":
            pass
        case other:
            raise AssertionError(f"nobody knows how to imitate {other}")


def copy(source: str, work: Path) -> None:
    if (ROOT / source).is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, work / source, ignore=ignored)
    else:
        shutil.copy(ROOT / source, work)


def run(*command: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def as_nobody(prefix: Path, *command: str) -> str:
    """As the image runs it: only its own variables, by a user that owns nothing."""
    environment = {
        name: value.replace("${ATTUNE_PREFIX}", str(prefix))
        for name, value in image_environment().items()
    }
    become = AS_NOBODY if os.geteuid() == 0 and shutil.which("setpriv") else ()
    return run(*become, *command, cwd=Path("/"), env=environment)


def test_every_command_runs_from_the_image_as_a_user_who_owns_nothing(prefix: Path) -> None:
    commands = [f"{prefix}/bin/attune-executor", f"{prefix}/bin/attune-mq"]

    for command in commands:
        assert "usage:" in as_nobody(prefix, command, "--help")
    assert "exchanges:" in as_nobody(prefix, commands[1], "show")


def test_the_worker_of_the_compose_file_runs_from_the_image(prefix: Path) -> None:
    module = "attune_executor.examples.worker"

    assert "--actions" in as_nobody(prefix, f"{prefix}/bin/python3", "-m", module, "--help")


def test_the_image_has_the_versions_of_the_constraints_and_nothing_to_build_with(
    prefix: Path,
) -> None:
    program = (
        "import importlib.metadata as m\n"
        "for d in m.distributions(): print(d.metadata['Name'] + '==' + d.version)"
    )
    installed = as_nobody(prefix, f"{prefix}/bin/python3", "-c", program).split()
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    names = {one.partition("==")[0] for one in installed}

    [ours] = set(map(normal, installed)) - set(map(normal, pinned))
    assert ours.startswith("attune-mq==")
    assert {"psycopg", "alembic", "opentelemetry-api"} <= names
    assert names & {"pip", "hatchling", "pytest"} == set()


def normal(requirement: str) -> str:
    return requirement.lower().replace("_", "-")


def test_a_build_is_given_what_it_copies_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    given = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = [word for step in stages()[0] if step.name == "COPY" for word in step.words[:-1]]

    assert "*" in ignored
    assert given == set(copied)


def test_the_image_runs_as_a_numbered_user_and_asks_after_its_health_without_a_shell() -> None:
    last = {step.name: step.text for step in stages()[-1]}

    assert last["USER"] == "10001:10001"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["HEALTHCHECK"].endswith('CMD ["attune-executor", "health"]')
    assert last["ENTRYPOINT"] == '["attune-executor"]'
    assert not [step for step in stages()[-1] if step.name == "RUN"]


def test_both_stages_have_the_one_image_of_python_that_a_build_can_replace() -> None:
    first_words = CONTAINERFILE.read_text(encoding="utf-8")

    assert [step.text for stage in stages() for step in stage if step.name == "FROM"] == [
        "${PYTHON_IMAGE} AS build",
        "${PYTHON_IMAGE}",
    ]
    assert "ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-bookworm" in first_words

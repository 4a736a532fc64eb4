"""The unit, as systemd itself reads it where `systemd-analyze` is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment.files import UNIT, unit_environment, unit_settings

MOST_EXPOSED = 20  # of 100, in the words of systemd "OK" at most; this unit has 12


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not on this machine")
    return program


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """The unit of one instance, its program being the one of these tests."""
    program = Path(sys.executable).with_name("attune-executor")
    text = UNIT.read_text(encoding="utf-8").replace("/opt/attune/bin/attune-executor", str(program))
    path = tmp_path / "attune-executor@1.service"
    path.write_text(text, encoding="utf-8")
    return path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_systemd_has_nothing_to_say_against_the_unit(analyze: str, instance: Path) -> None:
    done = run(analyze, "verify", str(instance))

    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_little_that_the_service_could_harm(analyze: str, instance: Path) -> None:
    done = run(analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(instance))

    assert done.returncode == 0, done.stdout


def test_systemd_is_told_of_readiness_and_watches_the_process() -> None:
    settings = unit_settings()

    assert settings["Type"] == ["notify"]
    assert settings["NotifyAccess"] == ["main"]
    assert int(settings["WatchdogSec"][0]) > 0


def test_a_fault_that_only_a_person_can_mend_is_not_tried_again() -> None:
    settings = unit_settings()

    assert settings["Restart"] == ["always"]
    assert settings["RestartPreventExitStatus"] == ["2"]


def test_each_credential_that_is_named_is_loaded() -> None:
    loaded = {value.partition(":")[0] for value in unit_settings()["LoadCredential"]}
    used = [*unit_environment().values(), *unit_settings()["ExecStart"][0].split()]

    assert {one.removeprefix("%d/") for one in used if one.startswith("%d/")} == loaded


def test_no_password_is_in_the_environment() -> None:
    assert not [name for name in unit_environment() if name.endswith("PASSWORD")]

"""Reading what `deploy/` holds: the unit, the compose file, the manifests, the container file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "attune-executor@.service"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
KUBERNETES = DEPLOY / "kubernetes"

_UNITS_S = {"s": 1, "m": 60, "h": 3_600}


def seconds(text: str) -> float:
    """A duration of systemd or compose: ``45``, ``45s``, ``1m30s``."""
    if text.isdigit():
        return int(text)
    assert re.fullmatch(r"(\d+[smh])+", text), text
    return sum(int(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)([smh])", text))


def unit_settings() -> dict[str, list[str]]:
    """The unit's settings, whatever their section, with all values in their order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def unit_environment() -> dict[str, str]:
    pairs = (value.partition("=") for value in unit_settings()["Environment"])
    return {name: value for name, _, value in pairs}


def compose() -> dict[str, Any]:
    """The compose file, its anchors resolved and its variables not."""
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def compose_services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = compose()["services"]
    return services


def compose_executors() -> dict[str, dict[str, Any]]:
    return {name: one for name, one in compose_services().items() if name.startswith("executor-")}


def manifests() -> list[dict[str, Any]]:
    """Every object that the kustomization lists, but for those that it generates."""
    return [
        document
        for name in kustomization()["resources"]
        for document in yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8"))
    ]


def kustomization() -> dict[str, Any]:
    document = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def manifest(kind: str) -> dict[str, Any]:
    [found] = [one for one in manifests() if one["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifest("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    [only] = pod()["containers"]
    assert isinstance(only, dict)
    return only


def container_environment() -> dict[str, str]:
    """Without what Kubernetes fills in."""
    return {one["name"]: one["value"] for one in container()["env"] if "value" in one}


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def stages() -> list[list[Instruction]]:
    """The container file's instructions, from one ``FROM`` to the next."""
    found: list[list[Instruction]] = []
    for instruction in _instructions(CONTAINERFILE.read_text(encoding="utf-8")):
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def _instructions(text: str) -> Iterator[Instruction]:
    without_comments = re.sub(r"(?m)^\s*#.*\n", "", text)
    for line in without_comments.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield Instruction(name, rest.strip())


def image_environment() -> dict[str, str]:
    words = [word for one in stages()[-1] if one.name == "ENV" for word in one.words]
    return dict(word.split("=", 1) for word in words)


def executor_environments() -> Mapping[str, Mapping[str, str]]:
    """What each way of deployment tells an executor by variables."""
    return {
        "systemd": unit_environment(),
        "container": image_environment(),
        "kubernetes": container_environment(),
        **{f"compose {name}": one["environment"] for name, one in compose_executors().items()},
    }

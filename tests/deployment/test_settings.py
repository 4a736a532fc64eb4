"""Every variable that `deploy/` names is one that the programs read: a misspelt one is no error
anywhere, it only does nothing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from attune_executor.settings import ExecutorSettings
from attune_mq import BrokerSettings
from tests.deployment.files import DEPLOY, ROOT, executor_environments, manifest

SHIPPED = (ROOT / "topology.yaml").read_text(encoding="utf-8")
KNOWN = {
    *(f"ATTUNE_{name.upper()}" for name in ExecutorSettings.model_fields),
    *(f"ATTUNE_MQ_{one.name.upper()}" for one in dataclasses.fields(BrokerSettings)),
    *re.findall(r"\$\{(ATTUNE_\w+)", SHIPPED),
    "ATTUNE_MQ_URL",
    "ATTUNE_MQ_TOPOLOGY",
    "ATTUNE_PREFIX",  # of the image's build alone
}


def texts() -> list[Path]:
    return sorted(path for path in DEPLOY.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_each_variable_is_one_that_is_read(path: Path) -> None:
    named = set(re.findall(r"\bATTUNE_[A-Z_]+\b", path.read_text(encoding="utf-8")))

    assert named - KNOWN == set()


@pytest.mark.parametrize("way", executor_environments())
def test_the_settings_can_be_read(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in executor_environments()[way].items():
        monkeypatch.setenv(name, value.replace("809%i", "8091"))

    ExecutorSettings()


def test_each_executor_has_an_instance_of_its_own() -> None:
    environments = executor_environments()
    instances = [one["ATTUNE_INSTANCE"] for way, one in environments.items() if "compose" in way]
    by_pod = manifest("Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]

    assert len(set(instances)) == len(instances) == 2
    assert "%i" in environments["systemd"]["ATTUNE_INSTANCE"]
    assert {"fieldRef": {"fieldPath": "metadata.name"}} in [one.get("valueFrom") for one in by_pod]

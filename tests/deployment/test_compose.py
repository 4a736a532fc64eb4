"""The compose file and Prometheus' configuration, against the specification and each other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.deployment.files import (
    COMPOSE,
    DEPLOY,
    compose,
    compose_executors,
    compose_services,
    image_environment,
)
from tests.metrics.rules import needs_promtool, promtool


def prometheus() -> dict[str, Any]:
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


def test_the_file_is_as_the_specification_has_it() -> None:
    PyCompose.from_json(json.dumps(compose())).validate()


def test_there_is_all_that_the_executor_needs_and_watches() -> None:
    assert set(compose_services()) == {
        "broker",
        "database",
        "executor-1",
        "executor-2",
        "prometheus",
        "worker",
    }


def test_each_volume_is_declared_or_a_file_that_is_there() -> None:
    sources = [volume.split(":")[0] for one in services() for volume in one.get("volumes", ())]
    paths = [source for source in sources if source.startswith(".")]

    assert {source for source in sources if source not in paths} == set(compose()["volumes"])
    assert [path for path in paths if not (COMPOSE.parent / path).exists()] == []


def test_each_variable_that_compose_asks_for_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
    example = (DEPLOY / "compose" / "example.env").read_text(encoding="utf-8")

    assert set(re.findall(r"(?m)^(\w+)=", example)) == asked


def test_no_port_is_open_to_other_machines() -> None:
    ports = [port for one in services() for port in one.get("ports", ())]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", [*compose_executors(), "worker"])
def test_our_services_are_built_from_the_container_file_and_can_do_little(name: str) -> None:
    service = compose_services()[name]
    built = service["build"]
    root = (COMPOSE.parent / built["context"]).resolve()

    assert (root / built["dockerfile"]).is_file()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", [*compose_executors(), "worker"])
def test_our_services_read_files_that_are_mounted(name: str) -> None:
    service = compose_services()[name]
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    named = [*service["environment"].values(), *service.get("command", ())]

    assert {one for one in named if one.startswith("/etc/")} <= mounted


def test_prometheus_scrapes_every_executor_and_the_broker() -> None:
    port = image_environment()["ATTUNE_HEALTH_PORT"]
    scraped = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in prometheus()["scrape_configs"]
    }

    assert scraped == {
        "attune-executor": [f"{name}:{port}" for name in compose_executors()],
        "rabbitmq": ["broker:15692"],
    }


def test_prometheus_reads_alerts_that_are_there() -> None:
    folder = DEPLOY / "prometheus"

    assert [name for name in prometheus()["rule_files"] if not (folder / name).is_file()] == []


@needs_promtool
def test_prometheus_can_read_its_configuration() -> None:
    assert "SUCCESS" in promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def services() -> list[dict[str, Any]]:
    return list(compose_services().values())

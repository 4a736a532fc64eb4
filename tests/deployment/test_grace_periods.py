"""What stops an executor gives it the time to drain; what starts one, the time to get ready."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from attune_executor.migrations import migrate
from attune_executor.settings import ExecutorSettings
from tests.deployment.files import (
    compose_executors,
    container,
    container_environment,
    pod,
    seconds,
    unit_environment,
    unit_settings,
)

# After the drain: the relay gets a second at least, the publisher closes, the process ends.
MARGIN_S = 10.0
DATABASE_WAIT_S = float(inspect.signature(migrate).parameters["timeout_s"].default)


def setting(name: str, environment: dict[str, Any]) -> float:
    default = ExecutorSettings.model_fields[name].default
    return float(environment.get(f"ATTUNE_{name.upper()}", default))


def test_systemd_waits_longer_than_the_drain() -> None:
    [grace] = unit_settings()["TimeoutStopSec"]

    assert seconds(grace) >= setting("drain_s", unit_environment()) + MARGIN_S


@pytest.mark.parametrize("name", compose_executors())
def test_compose_waits_longer_than_the_drain(name: str) -> None:
    service = compose_executors()[name]

    grace_s = seconds(service["stop_grace_period"])
    assert grace_s >= setting("drain_s", service["environment"]) + MARGIN_S


def test_kubernetes_waits_longer_than_the_drain() -> None:
    grace_s = pod()["terminationGracePeriodSeconds"]

    assert grace_s >= setting("drain_s", container_environment()) + MARGIN_S


def test_systemd_gives_a_start_the_time_to_wait_for_broker_and_database() -> None:
    [start] = unit_settings()["TimeoutStartSec"]

    waits_s = setting("broker_wait_s", unit_environment()) + DATABASE_WAIT_S
    assert seconds(start) >= waits_s + MARGIN_S


def test_kubernetes_gives_a_start_the_time_to_wait_for_broker_and_database() -> None:
    probe = container()["startupProbe"]

    waits_s = setting("broker_wait_s", container_environment()) + DATABASE_WAIT_S
    assert probe["periodSeconds"] * probe["failureThreshold"] >= waits_s + MARGIN_S

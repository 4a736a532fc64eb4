"""The unit under systemd itself: every restriction of it in force."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator

import pytest

from attune_mq.broker import EmbeddedBroker
from attune_mq.health import ask_health
from tests.deployment.files import ROOT, UNIT
from tests.deployment.on_debian.system import System
from tests.deployment.pods import free_port
from tests.waiting import wait_until

FIRST, SECOND = "attune-executor@1", "attune-executor@2"
Ports = dict[str, int]


@pytest.fixture
def ports(system: System, broker: EmbeddedBroker) -> Iterator[Ports]:
    """The service as the page on operations installs it, its two instances not yet started."""
    units = system.root / "etc/systemd/system"
    shutil.copy(UNIT, units)
    shutil.rmtree(units / f"{UNIT.name}.d", ignore_errors=True)
    ports = {unit: free_port() for unit in (FIRST, SECOND)}
    with broker.fresh_vhost() as url:
        system.write("/etc/attune/executor.env", f"ATTUNE_MQ_URL={url.replace(':guest@', '@')}\n")
        for unit, port in ports.items():
            number = unit[-1]
            system.write(f"/etc/attune/executor-{number}.env", f"ATTUNE_HEALTH_PORT={port}\n")
        for name, source in {"topology": "topology.yaml", "rules": "examples/rules.yaml"}.items():
            text = (ROOT / source).read_text(encoding="utf-8")
            system.write(f"/etc/attune/{name}.yaml", text)
        database = "database_url: sqlite:////var/lib/attune/attune.db\n"
        system.write("/etc/attune/executor.yaml", database, mode=0o600)
        system.write("/etc/attune/rabbitmq-password", "guest\n", mode=0o600)
        system.run("systemctl", "daemon-reload")
        try:
            yield ports
        finally:
            system.run("systemctl", "stop", FIRST, SECOND)
            system.run("systemctl", "reset-failed")


def start(system: System, unit: str) -> None:
    done = system.run("systemctl", "start", unit)
    assert done.returncode == 0, done.stderr + system.journal(unit)


def until(holds: Callable[[], bool], what: str, system: System, unit: str) -> None:
    try:
        wait_until(holds, what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{system.journal(unit)}") from None


def test_a_start_is_over_when_it_consumes_and_a_stop_when_it_has_drained(
    system: System, ports: Ports
) -> None:
    start(system, FIRST)
    assert ask_health(f"http://127.0.0.1:{ports[FIRST]}/readyz").is_good
    assert system.show(FIRST, "ActiveState") == "active"

    assert system.run("systemctl", "stop", FIRST).returncode == 0
    assert system.show(FIRST, "Result") == "success"
    assert system.show(FIRST, "ExecMainStatus") == "0"
    assert "executor.manager@debian-1" in system.journal(FIRST)
    assert "Traceback" not in system.journal(FIRST)
    lines = [line for line in system.journal(FIRST).splitlines() if line.startswith("{")]
    assert {"INFO"} <= {json.loads(line)["level"].upper() for line in lines}


def test_two_instances_run_side_by_side(system: System, ports: Ports) -> None:
    start(system, FIRST)
    start(system, SECOND)

    for port in ports.values():
        assert ask_health(f"http://127.0.0.1:{port}/readyz").is_good
    assert "executor.manager@debian-2" in system.journal(SECOND)


def test_one_that_stands_still_is_killed_by_the_watchdog_and_started_again(
    system: System, ports: Ports
) -> None:
    quicker = "[Service]\nWatchdogSec=3\nRestartSec=0\n"
    system.write("/etc/systemd/system/attune-executor@.service.d/quicker.conf", quicker)
    system.run("systemctl", "daemon-reload")
    start(system, FIRST)
    pid = system.show(FIRST, "MainPID")

    system.run("sh", "-c", f"kill -STOP {pid}")

    until(
        lambda: (
            system.show(FIRST, "MainPID") not in ("0", pid)
            and system.show(FIRST, "ActiveState") == "active"
        ),
        "it runs again",
        system,
        FIRST,
    )
    assert system.show(FIRST, "NRestarts") == "1"


def test_one_whose_rules_are_wrong_is_not_started_again_and_says_why(
    system: System, ports: Ports
) -> None:
    system.write("/etc/attune/rules.yaml", "version: 1\n")

    assert system.run("systemctl", "start", FIRST).returncode != 0
    assert system.show(FIRST, "ExecMainStatus") == "2"
    assert system.show(FIRST, "NRestarts") == "0"
    assert "rules.yaml" in system.journal(FIRST)


def test_its_secrets_can_be_read_by_nobody_else(system: System, ports: Ports) -> None:
    start(system, FIRST)
    secret = f"/run/credentials/{FIRST}.service/rabbitmq-password"

    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert system.run(*as_nobody, "cat", secret).returncode != 0
    assert "guest" not in system.show(FIRST, "Environment")

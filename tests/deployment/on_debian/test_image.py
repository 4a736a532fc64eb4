"""The image, built and run."""

from __future__ import annotations

import json

from attune_mq.broker import EmbeddedBroker
from tests.deployment.files import ROOT
from tests.deployment.on_debian.system import Buildah
from tests.deployment.pods import free_port

RUN_UNTIL_HEALTHY = """
attune-executor run --rules /tmp/rules.yaml & executor=$!
until attune-executor health; do kill -0 $executor; sleep 0.2; done
kill -TERM $executor
wait $executor
"""


def test_the_image_says_how_it_is_run_and_asked(buildah: Buildah, image: str) -> None:
    config = json.loads(buildah("inspect", "--type=image", image))["Docker"]["config"]

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["attune-executor"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "attune-executor", "health"]


def test_in_the_image_an_executor_becomes_healthy_and_drains(
    buildah: Buildah, container: str, broker: EmbeddedBroker
) -> None:
    rules = ROOT / "examples" / "rules.yaml"
    buildah("copy", container, str(rules), "/tmp/rules.yaml")
    with broker.fresh_vhost() as url:
        variables = {
            "ATTUNE_MQ_URL": url,
            "ATTUNE_HEALTH_PORT": str(free_port()),
            "ATTUNE_HEALTH_HOST": "127.0.0.1",  # the network is shared with this machine
        }
        given = [f"--env={name}={value}" for name, value in variables.items()]
        buildah("run", *given, container, "--", "sh", "-euc", RUN_UNTIL_HEALTHY)


def test_in_the_image_nothing_but_the_folder_for_data_can_be_written(
    buildah: Buildah, container: str
) -> None:
    writable = (
        "find / -xdev -writable -not -type l -not -path '/tmp*' -not -path '/var/tmp*' 2>/dev/null"
    )
    found = buildah("run", container, "--", "sh", "-c", f"{writable} || true").split()

    assert [one for one in found if one.startswith(("/opt", "/usr", "/etc"))] == []
    assert "/var/lib/attune" in found

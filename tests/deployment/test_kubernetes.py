"""The manifests, against Kubernetes' own schemas, and against each other."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.deployment.files import (
    KUBERNETES,
    container,
    container_environment,
    kustomization,
    manifest,
    manifests,
    pod,
)

VERSIONS = ("1.30", "1.37")  # the oldest that we try, and the newest whose schemas we have


@pytest.fixture(scope="module")
def built() -> list[dict[str, Any]]:
    """What is applied: the manifests as kustomize puts them together."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on this machine")
    command = [kubectl, "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(KUBERNETES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", [one["kind"] for one in manifests()])
def test_a_manifest_is_as_kubernetes_has_it(kind: str, version: str) -> None:
    kubernetes_validate.validate(manifest(kind), version, strict=True)


def test_what_kustomize_builds_is_as_kubernetes_has_it(built: list[dict[str, Any]]) -> None:
    for one in built:
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


def test_the_pods_get_the_files_under_the_name_that_changes_with_them(
    built: list[dict[str, Any]],
) -> None:
    [files] = [one for one in built if one["kind"] == "ConfigMap"]
    [deployment] = [one for one in built if one["kind"] == "Deployment"]
    [volume] = [
        v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "files"
    ]

    assert files["metadata"]["name"].startswith("attune-files-")
    assert volume["configMap"]["name"] == files["metadata"]["name"]
    assert set(files["data"]) == {"topology.yaml", "rules.yaml"}
    assert {one["metadata"]["namespace"] for one in built if one["kind"] != "Namespace"} == {
        "attune"
    }


def test_every_manifest_is_listed() -> None:
    listed = {*kustomization()["resources"], "kustomization.yaml"}

    assert {path.name for path in KUBERNETES.iterdir()} == listed


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")],
)
def test_the_probes_ask_where_the_executor_answers(probe: str, path: str) -> None:
    asked = container()[probe]["httpGet"]
    [port] = [one for one in container()["ports"] if one["name"] == asked["port"]]

    assert asked["path"] == path
    assert str(port["containerPort"]) == container_environment()["ATTUNE_HEALTH_PORT"]
    assert container_environment()["ATTUNE_HEALTH_HOST"] == "0.0.0.0"  # the kubelet is not inside


def test_prometheus_is_told_the_port_and_the_path() -> None:
    annotations = manifest("Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": container_environment()["ATTUNE_HEALTH_PORT"],
        "prometheus.io/path": "/metrics",
    }


def test_everything_that_selects_pods_selects_those_of_the_executor() -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifest("Deployment")["spec"]["selector"],
        manifest("PodDisruptionBudget")["spec"]["selector"],
        manifest("NetworkPolicy")["spec"]["podSelector"],
        pod()["topologySpreadConstraints"][0]["labelSelector"],
    ]

    assert all(one == {"matchLabels": labels} for one in selectors)


def test_each_path_that_is_named_is_in_a_volume_that_is_mounted() -> None:
    mounts = {one["mountPath"]: one["name"] for one in container()["volumeMounts"]}
    named = [*container_environment().values(), *container()["args"]]
    paths = [one for one in named if one.startswith("/etc/attune/")]

    assert {path.rpartition("/")[0] for path in paths} == set(mounts)
    assert set(mounts.values()) == {one["name"] for one in pod()["volumes"]}


def test_no_password_is_in_a_manifest_or_in_the_environment() -> None:
    assert not [one for one in manifests() if one["kind"] == "Secret"]
    assert not [one["name"] for one in container()["env"] if one["name"].endswith("PASSWORD")]


def test_a_roll_out_never_has_fewer_executors_than_before() -> None:
    strategy = manifest("Deployment")["spec"]["strategy"]

    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_pod_may_run_where_only_restricted_ones_may() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }

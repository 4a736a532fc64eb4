"""Executor, worker, sensor and notifier, each a user of its own with what ``acl`` names for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from attune_mq import Publisher, load_topology
from attune_mq.broker import EmbeddedBroker
from attune_mq.topology import acl
from tests.administration import Administration, url_for, virtual_host_of
from tests.executor.harness import SHIPPED, enforcement, eventually, running, settings_for


@pytest.fixture
def urls(broker: EmbeddedBroker, broker_url: str) -> Iterator[dict[str, str]]:
    """The URL of each service, by its name."""
    administration, topology = Administration(broker), load_topology(SHIPPED)
    with ExitStack() as stack:
        urls = {}
        for service in ("executor", "worker", "sensor", "notifier"):
            named = acl(topology, service, version=broker.version)
            permissions = {kind: getattr(named, kind) for kind in ("configure", "write", "read")}
            user = stack.enter_context(administration.user())
            administration.allow(virtual_host_of(broker_url), user, permissions)
            urls[service] = url_for(user, broker_url)
        yield urls


def test_an_enforcement_is_executed_and_told_with_the_least_permissions(
    urls: dict[str, str], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        harness = stack.enter_context(running(settings_for(tmp_path, urls["executor"], SHIPPED)))
        stack.enter_context(replace(harness, url=urls["notifier"]).notifier())
        stack.enter_context(replace(harness, url=urls["worker"]).worker())
        with Publisher(harness.topology, urls["sensor"], source_service="sensor") as sensor:
            sensor.publish(enforcement(1))

        eventually(lambda: harness.executions() == {"completed": 1})
        harness.seen.until(lambda: len(harness.seen.notifications) == 1)

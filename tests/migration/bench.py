"""What the tests of migrations share."""

from __future__ import annotations

from typing import Any

import pika
import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.management import ManagementClient
from attune_mq.broker.observation import observe_by_management
from attune_mq.broker.plan import plan
from attune_mq.migration.context import MigrationTimeouts
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import Progress, Step
from attune_mq.topology.model import Topology
from tests.administration import virtual_host_of
from tests.messaging.bench import QUEUE, Bench, topology_of

OLD, QUORUM = topology_of(), topology_of(type="quorum")
SOON = MigrationTimeouts(statistics_age_s=6.0)


class Asked(Exception):
    """Raised where a test wants a migration to end."""


def ends_at(step: Step, url: str, topology: Topology = QUORUM, **options: Any) -> None:
    """A migration that is broken off at the beginning of a step."""

    def break_off(progress: Progress) -> None:
        if progress.step is step:
            raise Asked

    with pytest.raises(Asked):
        migrate(topology, url, names=[QUEUE], on_progress=break_off, **options)


def ids(bench: Bench, queue: str = QUEUE) -> list[str | None]:
    fresh = Bench(bench.url)  # a channel of 3.10 remembers of which type a queue was
    try:
        return [one.properties.message_id for one in fresh.take_all(queue)]
    finally:
        fresh.close()


def put(bench: Bench, *names: str, **properties: Any) -> None:
    for name in names:
        bench.put(QUEUE, b"body", pika.BasicProperties(message_id=name, **properties))


def is_as(topology: Topology, url: str) -> bool:
    """The queue itself; its dead letter queue may not be."""
    return QUEUE not in [one.declaration.name for one in plan(topology, url).conflicts]


def leftovers(bench: Bench, broker: EmbeddedBroker) -> list[str]:
    seen = everything(bench, broker)
    return [name for name in (*seen.exchanges, *seen.queues) if "migrating" in name]


def everything(bench: Bench, broker: EmbeddedBroker) -> Any:
    assert broker.management_url is not None
    return observe_by_management(
        ManagementClient(broker.management_url), virtual_host_of(bench.url)
    )

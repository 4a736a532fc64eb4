"""What a migration does to exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.management import ManagementClient
from attune_mq.broker.observation import observe_by_management
from attune_mq.broker.plan import plan
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import MigratedExchange, Step
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology
from tests.administration import virtual_host_of
from tests.messaging.bench import Bench
from tests.migration.dying_processes import Death, migrate_in_a_process
from tests.migration.traffic import FILE, Traffic

OLD_TEXT = FILE
CHANGES = {
    "topic": "{name: work, type: topic}",
    "fanout": "{name: work, type: fanout}",
    "headers": "{name: work, type: headers}",
    "an alternate exchange": "{name: work, type: direct, alternate_exchange: dlx}",
    "transient": "{name: work, type: direct, durable: false}",
}


def text_of(work: str) -> str:
    return FILE.replace("{name: work, type: direct}", work)


def topology_of(text: str) -> Topology:
    return parse_topology(text, file="topology.yaml", environment={})


@pytest.fixture
def bench(broker_url: str) -> Iterator[Bench]:
    bench = Bench(broker_url)
    bench.set_up(topology_of(OLD_TEXT))
    yield bench
    bench.close()


def bindings(bench: Bench, broker: EmbeddedBroker) -> set[str]:
    assert broker.management_url is not None
    client = ManagementClient(broker.management_url)
    seen: Any = observe_by_management(client, virtual_host_of(bench.url))
    assert not [name for name in seen.exchanges if "migrating" in name]
    return set(map(repr, seen.bindings))


@pytest.mark.parametrize("change", CHANGES)
def test_an_exchange_becomes_what_the_file_says_and_keeps_its_bindings(
    bench: Bench, broker: EmbeddedBroker, change: str
) -> None:
    wanted = topology_of(text_of(CHANGES[change]))
    before = bindings(bench, broker)

    [migrated] = migrate(wanted, bench.url).migrated

    assert isinstance(migrated, MigratedExchange)
    assert not plan(wanted, bench.url).conflicts
    assert bindings(bench, broker) == before


def test_bindings_of_other_programs_are_kept_by_the_http_api(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    bench.channel.exchange_declare("foreign", "topic", durable=True)
    bench.channel.exchange_bind("work", "foreign", "to.#")
    bench.channel.exchange_bind("foreign", "work", "from.#")
    before = bindings(bench, broker)
    wanted = topology_of(text_of(CHANGES["topic"]))

    migrate(wanted, bench.url, management_url=broker.management_url)

    assert bindings(bench, broker) == before


def test_what_comes_from_another_exchange_does_not_notice(bench: Bench) -> None:
    text = FILE.replace(
        "{source: work, destination: all, destination_type: exchange",
        "{source: all, destination: work, destination_type: exchange",
    )
    through_all = text.replace("{exchange: work, routing_key", "{exchange: all, routing_key")
    bench.set_up(topology_of(through_all))
    changed = through_all.replace("{name: work, type: direct}", CHANGES["topic"])

    with Traffic(bench.url, through_all) as traffic:
        migrate(topology_of(changed), bench.url)
        traffic.wait_for(100)
        result = traffic.result()

    assert (result.lost, result.doubled, result.refused) == (set(), {}, set())


def test_publishers_are_told_what_they_published_into_the_gap(bench: Bench) -> None:
    wanted = text_of(CHANGES["topic"])

    with Traffic(bench.url, OLD_TEXT) as traffic:
        for text in (wanted, OLD_TEXT) * 3:
            migrate(topology_of(text), bench.url)
            traffic.wait_for(100)
        result = traffic.result()

    assert (result.lost, result.doubled) == (set(), {})


def test_killed_in_each_step_it_goes_on(bench: Bench, broker: EmbeddedBroker) -> None:
    texts = (text_of(CHANGES["topic"]), OLD_TEXT)
    before = bindings(bench, broker)
    assert broker.management_url is not None

    for turn, step in enumerate((Step.PREPARE, Step.REPLACE, Step.CLEAN_UP)):
        text, death = texts[turn % 2], Death(step, 2)
        assert migrate_in_a_process(bench.url, broker.management_url, text, death).is_killed, step
        migrate(topology_of(text), bench.url)
        assert bindings(bench, broker) == before

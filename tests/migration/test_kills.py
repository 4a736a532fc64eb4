"""A migration that is killed at each of its steps, and called again, while messages flow.

``make test`` kills at some steps of one change. ``make migrations`` sets
``ATTUNE_MIGRATION_KILLS=all``: each thing that a migration does to the broker, of each change.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.topology.loading import parse_topology
from tests.migration.dying_processes import ALL, is_killed
from tests.migration.traffic import Traffic, file_of

CHANGES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "classic to quorum": ({}, {"type": "quorum"}),
    "quorum to classic": ({"type": "quorum"}, {}),
    "ttl": ({}, {"ttl": "1h"}),
    "ttl of a quorum queue": ({"type": "quorum"}, {"type": "quorum", "ttl": "1h"}),
    "dead letter exchange": ({}, {"dead_letter": "{exchange: other-dlx, ttl: 1h}"}),
}


def set_up(url: str, topology: str) -> None:
    setup_infrastructure(parse_topology(topology, file="topology.yaml", environment={}), url)


def test_killed_again_and_again_it_loses_and_doubles_nothing(broker_url: str) -> None:
    before, after = (file_of(**keys) for keys in CHANGES["classic to quorum"])
    set_up(broker_url, before)

    with Traffic(broker_url, after) as traffic:
        kills = 0
        while is_killed(broker_url, after, dies_before=14 + 9 * kills):
            kills += 1
        result = traffic.result()

    assert (result.lost, result.doubled) == (set(), {}), result
    assert kills > 3


@pytest.mark.skipif(not ALL, reason="takes an hour: make migrations")
@pytest.mark.parametrize("change", CHANGES)
def test_killed_once_anywhere_it_loses_and_doubles_nothing(
    change: str, broker_url: str, record_property: Callable[[str, object], None]
) -> None:
    files = [file_of(**keys) for keys in CHANGES[change]]
    set_up(broker_url, files[0])

    with Traffic(broker_url, files[0]) as traffic:
        kills = 0
        while is_killed(broker_url, files[(kills + 1) % 2], dies_before=kills + 1):
            assert not is_killed(broker_url, files[(kills + 1) % 2], dies_before=0)
            kills += 1
            assert traffic.doubled == {}, f"killed before act {kills}"
            traffic.wait_for(100)
        result = traffic.result()

    record_property("kills", kills)
    record_property("published", result.published)
    record_property("overtaken", result.overtaken)
    assert (result.lost, result.doubled) == (set(), {}), result

"""A migration that is killed in each of its steps, and called again, while messages flow.

``make migrations`` kills in more places, and migrations of other kinds: :mod:`.kills`.
"""

from __future__ import annotations

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.migration.report import Step
from attune_mq.topology.loading import parse_topology
from tests.migration.dying_processes import Death
from tests.migration.kills import CHANGES, IN_FLIGHT, migrate_under
from tests.migration.traffic import Traffic


def test_killed_in_each_step_it_loses_and_doubles_nothing(
    broker: EmbeddedBroker, broker_url: str
) -> None:
    """Each call goes on where the one before was killed, and comes one step further."""
    before, after = CHANGES["classic to quorum"]
    setup_infrastructure(parse_topology(before, file="topology.yaml", environment={}), broker_url)

    with Traffic(broker_url, before, in_flight=IN_FLIGHT) as traffic:
        for step in Step:
            death = Death(step, 2)
            assert migrate_under(traffic, broker, broker_url, after, death).is_killed, step
        assert not migrate_under(traffic, broker, broker_url, after, None).is_killed
        traffic.wait_for(50)
        result = traffic.result()

    assert (result.lost, result.doubled) == (set(), {}), result

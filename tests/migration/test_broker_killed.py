"""A migration whose broker is killed. ``make migrations`` does it at more moments."""

from __future__ import annotations

from attune_mq import migrate, setup_infrastructure
from attune_mq.broker import EmbeddedBroker
from attune_mq.migration import Step
from attune_mq.migration.queue_reader import MOST_MESSAGES
from tests.messaging.bench import QUEUE, topology_of
from tests.migration.broker_deaths import (
    MESSAGES,
    fill_queue,
    migrate_and_kill_the_broker,
    taken,
)


def test_nothing_is_lost_and_two_batches_doubled_at_most_each_time_the_broker_is_killed(
    fault_broker: EmbeddedBroker,
) -> None:
    quorum = topology_of(type="quorum")
    with fault_broker.fresh_vhost() as url:
        setup_infrastructure(topology_of(), url)
        fill_queue(url)
        fault_broker.restart()  # what was declared moments before a kill may be gone with it

        migrate_and_kill_the_broker(fault_broker, url, quorum, Step.DRAIN, "confirmed")
        migrate_and_kill_the_broker(fault_broker, url, quorum, Step.REFILL, "sent")
        migrate(quorum, url, names=[QUEUE])

        counts = taken(url)

    assert set(counts) == {str(number) for number in range(MESSAGES)}
    assert counts.total() - MESSAGES <= 2 * 2 * MOST_MESSAGES

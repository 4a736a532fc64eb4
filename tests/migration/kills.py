"""Kills a migration once in each place, and calls it again, while messages flow.

    python -m pytest -n 2 --dist worksteal tests/migration/kills.py

is ``make migrations``. It takes too long for ``make test``, which does not collect this module: it
kills once in each step (``test_kills.py``).

``ATTUNE_MIGRATION_KILLS``: in how many places of each step to kill at most, spread evenly; ``all``
is before each thing that a migration does to the broker.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping

import pytest

from attune_mq import migrate, parse_topology, setup_infrastructure
from attune_mq.broker import EmbeddedBroker
from attune_mq.migration import Step
from attune_mq.migration.queue_reader import MOST_MESSAGES
from tests.messaging.bench import QUEUE, topology_of
from tests.migration.broker_deaths import (
    MESSAGES,
    MOMENTS,
    fill_queue,
    migrate_and_kill_the_broker,
    taken,
)
from tests.migration.dying_processes import Death, Ended, migrate_in_a_process
from tests.migration.traffic import FILE, Traffic, file_of

PLACES = os.environ.get("ATTUNE_MIGRATION_KILLS", "3")
IN_FLIGHT = 2
"""The publisher never pauses. With more, most of the time would go into moving messages."""
BACKLOG = 300
"""So that some batches have to be moved."""
EXCHANGE = "{name: work, type: direct}"
CHANGES: dict[str, tuple[str, str]] = {
    "classic to quorum": (FILE, file_of(type="quorum")),
    "quorum to classic": (file_of(type="quorum"), FILE),
    "TTL of a classic queue": (FILE, file_of(ttl="1h")),
    "TTL of a quorum queue": (file_of(type="quorum"), file_of(type="quorum", ttl="1h")),
    "dead letter exchange": (FILE, file_of(dead_letter="{exchange: other-dlx, ttl: 1h}")),
    "durability": (FILE, file_of(durable="false")),
    "exchange type": (FILE, FILE.replace(EXCHANGE, "{name: work, type: topic}")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_killed_once_anywhere_it_loses_and_doubles_nothing(
    change: str,
    broker: EmbeddedBroker,
    broker_url: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Every other time back to what it was: there and back, the places are killed in turn."""
    files = CHANGES[change]
    setup_infrastructure(parse_topology(files[0], file="topology.yaml", environment={}), broker_url)

    with Traffic(broker_url, files[0], in_flight=IN_FLIGHT) as traffic:

        def run(turn: int, death: Death | None = None) -> Ended:
            return migrate_under(traffic, broker, broker_url, files[(turn + 1) % 2], death)

        there, back = run(0), run(1)
        kills = 0
        for turn, death in enumerate(deaths(there.acts, back.acts)):
            kills += run(turn, death).is_killed
            run(turn)
            traffic.wait_for(50)
            assert not traffic.doubled, f"{death}, towards {files[(turn + 1) % 2]}"
        result = traffic.result()

    figures = {"change": change, "kills": kills, **result.figures()}
    for name, value in figures.items():
        record_property(name, value)
    assert (result.lost, result.doubled) == (set(), {})
    assert kills >= len(there.acts), "no place of its steps was reached"


def migrate_under(
    traffic: Traffic, broker: EmbeddedBroker, url: str, topology: str, death: Death | None
) -> Ended:
    """The queue holds a backlog, and its consumer some messages, until it is being emptied."""
    traffic.hold(BACKLOG)

    def see(step: Step) -> None:
        if step not in (Step.PREPARE, Step.DIVERT, Step.PARK):
            traffic.release()

    assert broker.management_url is not None
    try:
        return migrate_in_a_process(url, broker.management_url, topology, death, see)
    finally:
        traffic.release()


def deaths(*acts: Mapping[Step, int]) -> Iterator[Death]:
    for step in Step:
        for act in spread(max(one.get(step, 0) for one in acts)):
            yield Death(step, act)


def spread(count: int) -> list[int]:
    """Some of the numbers from 1 to ``count``, the first and the last among them."""
    most = count if PLACES == "all" else min(count, int(PLACES))
    if most < 2:
        return list(range(1, most + 1))
    return [1 + math.floor(index * (count - 1) / (most - 1)) for index in range(most)]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", [Step.DRAIN, Step.REFILL])
@pytest.mark.parametrize("types", [("classic", "quorum"), ("quorum", "classic")], ids="-".join)
def test_when_the_broker_is_killed_it_loses_nothing_and_doubles_two_batches_at_most(
    types: tuple[str, str],
    step: Step,
    moment: str,
    fault_broker: EmbeddedBroker,
    record_property: Callable[[str, object], None],
) -> None:
    before, after = (topology_of(type=one) for one in types)
    with fault_broker.fresh_vhost() as url:
        setup_infrastructure(before, url)
        fill_queue(url)
        fault_broker.restart()  # what was declared moments before a kill may be gone with it

        migrate_and_kill_the_broker(fault_broker, url, after, step, moment)
        migrate(after, url, names=[QUEUE])

        counts = taken(url)

    lost, doubled = MESSAGES - len(counts), counts.total() - len(counts)
    figures = {
        "change": f"{types[0]} to {types[1]}, the broker killed in {step.name} when {moment}",
        "kills": 1,
        "messages": MESSAGES,
        "lost": lost,
        "doubled": doubled,
    }
    for name, value in figures.items():
        record_property(name, value)
    assert lost == 0
    assert doubled <= 2 * MOST_MESSAGES

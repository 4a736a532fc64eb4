"""What a migration says and does when messages are gone that it has put somewhere."""

from __future__ import annotations

from collections.abc import Callable

import pika
import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import CountMismatch, MigratedQueue, Progress, Step
from attune_mq.migration.temporary_topology import TemporaryNames
from tests.messaging.bench import QUEUE, Bench
from tests.migration.bench import OLD, QUORUM, ends_at, ids, is_as, leftovers, put

NAMES = [str(number) for number in range(100)]
MOVED, JOURNAL = TemporaryNames(QUEUE).staging_queue, TemporaryNames(QUEUE).log_queue
UNKNOWN = {JOURNAL: "journal", TemporaryNames(QUEUE).parking_queue: "parked"}
"""Where they are gone nobody knows how much is."""
TEMPORARY = (
    MOVED,
    JOURNAL,
    TemporaryNames(QUEUE).parking_queue,
    TemporaryNames(QUEUE).mirror_queue,
)


def when_moved(work: Callable[[], object], step: Step) -> Callable[[Progress], None]:
    """Does the work once all are moved in that step, before anything else is done."""

    def see(progress: Progress) -> None:
        if progress.step is step and progress.moved == len(NAMES):
            work()

    return see


def stops(bench: Bench, *, on_progress: Callable[[Progress], None] = lambda _: None) -> str:
    """The queue that was counted."""
    with pytest.raises(CountMismatch) as caught:
        migrate(QUORUM, bench.url, names=[QUEUE], on_progress=on_progress)
    return caught.value.where


def publish(bench: Bench, name: str) -> None:
    channel = bench.connection.channel()
    channel.confirm_delivery()
    named = pika.BasicProperties(message_id=name, delivery_mode=2)
    channel.basic_publish("work", "requested", b"", named, mandatory=True)


def test_messages_that_are_gone_before_the_old_queue_is_deleted_stop_it(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *NAMES)

    where = stops(
        bench, on_progress=when_moved(lambda: bench.channel.queue_purge(MOVED), Step.DRAIN)
    )

    assert where == MOVED
    assert is_as(OLD, bench.url)
    assert set(TEMPORARY) <= set(leftovers(bench, broker))
    publish(bench, "later")
    assert ids(bench) == ["later"], "what is published does not come to the queue"


def test_a_further_call_stops_again_until_the_loss_is_accepted_and_then_tells_it(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *NAMES)
    stops(bench, on_progress=when_moved(lambda: bench.channel.queue_purge(MOVED), Step.DRAIN))

    assert stops(bench) == MOVED
    [migrated] = migrate(QUORUM, bench.url, names=[QUEUE], accept_loss=True).migrated

    assert isinstance(migrated, MigratedQueue)
    assert (migrated.moved, migrated.lost) == (0, len(NAMES))
    assert is_as(QUORUM, bench.url)
    assert leftovers(bench, broker) == []


def test_messages_that_are_gone_while_the_new_queue_is_filled_stop_it(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *NAMES)
    ends_at(Step.REFILL, bench.url)
    bench.channel.basic_get(MOVED, auto_ack=True)

    assert stops(bench) == MOVED
    assert stops(bench) == MOVED
    assert set(TEMPORARY) <= set(leftovers(bench, broker))


@pytest.mark.parametrize(
    ("queue", "step"),
    list(zip(TEMPORARY, (Step.REFILL, Step.REFILL, Step.PARK, Step.PARK), strict=True)),
    ids=lambda one: str(one).rpartition(".")[2],
)
def test_a_temporary_queue_that_is_gone_between_two_calls_stops_the_second(
    bench: Bench, queue: str, step: Step
) -> None:
    put(bench, *NAMES)
    ends_at(step, bench.url)
    bench.channel.queue_delete(queue)

    assert stops(bench) == queue
    assert stops(bench) == queue
    [migrated] = migrate(QUORUM, bench.url, names=[QUEUE], accept_loss=True).migrated

    assert isinstance(migrated, MigratedQueue)
    assert UNKNOWN.get(queue, "policies") in migrated.unseen
    assert is_as(QUORUM, bench.url)


@pytest.mark.parametrize("queue", TEMPORARY[:3], ids=lambda one: one.rpartition(".")[2])
def test_a_temporary_queue_that_is_gone_meanwhile_stops_it(bench: Bench, queue: str) -> None:
    put(bench, *NAMES)

    delete = when_moved(lambda: bench.channel.queue_delete(queue), Step.DRAIN)

    assert stops(bench, on_progress=delete) == queue
    assert is_as(OLD, bench.url)


def test_what_comes_at_the_last_moment_is_kept_though_others_are_missing(bench: Bench) -> None:
    """The old queue is deleted then, and what it gave to the migration is gone with it."""
    put(bench, "1", "2")

    def see(progress: Progress) -> None:
        if progress.step is Step.REPLACE and not came:
            came.append(True)
            bench.channel.basic_get(MOVED, auto_ack=True)
            channel = bench.connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", QUEUE, b"", pika.BasicProperties(message_id="last"))

    came: list[bool] = []
    assert stops(bench, on_progress=see) == MOVED
    [migrated] = migrate(QUORUM, bench.url, names=[QUEUE], accept_loss=True).migrated

    assert isinstance(migrated, MigratedQueue)
    assert migrated.lost == 1
    assert ids(bench) == ["2", "last"]


def test_a_journal_that_has_lost_its_records_is_not_believed(bench: Bench) -> None:
    put(bench, *NAMES)
    ends_at(Step.REFILL, bench.url)
    bench.channel.queue_purge(JOURNAL)
    bench.channel.queue_purge(MOVED)

    assert stops(bench) == JOURNAL


def test_more_messages_than_were_put_aside_stop_it_as_well(bench: Bench) -> None:
    put(bench, *NAMES)

    more = when_moved(lambda: bench.put(MOVED, b"of somebody else"), Step.DRAIN)

    assert stops(bench, on_progress=more) == MOVED


def test_a_new_queue_that_does_not_keep_what_is_put_into_it_stops_it_and_nothing_is_lost(
    bench: Bench,
) -> None:
    """Such as one that a policy lets expire which nobody sees."""
    put(bench, *NAMES)

    def delete(progress: Progress) -> None:
        if progress.step is Step.REFILL and progress.moved == 0:
            bench.channel.queue_delete(QUEUE)

    assert stops(bench, on_progress=delete) == QUEUE
    migrate(QUORUM, bench.url, names=[QUEUE])

    assert sorted(map(str, ids(bench))) == sorted(NAMES)


def test_transient_messages_are_persistent_while_they_are_staged(bench: Bench) -> None:
    put(bench, "transient", delivery_mode=1)
    put(bench, "persistent", delivery_mode=2)
    put(bench, "of no mode")
    ends_at(Step.REFILL, bench.url)

    waiting = [
        bench.channel.basic_get(MOVED)[1].delivery_mode  # type: ignore[union-attr]
        for _ in range(3)
    ]
    bench.channel.close()
    migrate(QUORUM, bench.url, names=[QUEUE])

    fresh = Bench(bench.url)
    kept = [one.properties.delivery_mode for one in fresh.take_all(QUEUE)]
    fresh.close()
    assert waiting == [2, 2, 2]
    assert kept == [1, 2, None]

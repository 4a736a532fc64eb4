"""Counting what is put into a queue that others consume, or that lets messages go by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.inspection import QueueCounts
from attune_mq.migration.control import Control
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import MigratedQueue, Progress, Step
from attune_mq.topology.model import Topology
from tests.messaging.bench import QUEUE, Bench, topology_of
from tests.migration.bench import OLD, QUORUM, ids, is_as, leftovers, put
from tests.migration.policy import policy

FULL = [str(number) for number in range(10)]


def publishes(bench: Bench, name: str, and_then: Callable[[], Any]) -> Callable[[Progress], None]:
    """One message that is parked."""
    done: list[bool] = []

    def see(progress: Progress) -> None:
        if progress.step is Step.DRAIN and not done:
            done.append(True)
            bench.channel.confirm_delivery()
            named = pika.BasicProperties(message_id=name, delivery_mode=2)
            bench.channel.basic_publish("work", "requested", b"", named, mandatory=True)
            and_then()

    return see


def fake_counts(monkeypatch: pytest.MonkeyPatch, *answers: QueueCounts) -> Callable[..., None]:
    """What the broker says of the new queue while that is filled; the last for ever. It cannot be
    brought to say so at the right moment."""
    counts, left, filling = Control.counts, list(answers), [False]

    def counted(control: Control, name: str) -> QueueCounts | None:
        if name != QUEUE or not filling[0]:
            return counts(control, name)
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(Control, "counts", counted)

    def see(progress: Progress) -> None:
        filling[0] |= progress.step is Step.REFILL

    return see


def migrated(bench: Bench, wanted: Topology = QUORUM, **options: Any) -> MigratedQueue:
    [one] = migrate(wanted, bench.url, names=[QUEUE], **options).migrated
    assert isinstance(one, MigratedQueue)
    return one


def test_a_limit_that_a_policy_sets_old_and_new_alike_is_no_mismatch(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *FULL)

    with policy(bench, broker, {"max-length": len(FULL)}, pattern=r"^work\.queue$"):
        migrated(
            bench, management_url=broker.management_url,
            on_progress=publishes(bench, "parked", lambda: None),
        )  # fmt: skip

    assert ids(bench) == [*FULL[1:], "parked"]


def test_a_limit_of_the_old_queue_that_gets_its_messages_back_is_no_mismatch(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    bench.channel.queue_delete(QUEUE)
    bench.set_up(topology_of(max_length=str(len(FULL))))
    put(bench, *FULL)
    late = policy(bench, broker, {"message-ttl": 3_600_000}, kind="operator-policies")

    [skipped] = migrate(
        OLD, bench.url, names=[QUEUE], management_url=broker.management_url,
        on_progress=publishes(bench, "parked", late.__enter__),
    ).skipped  # fmt: skip
    late.__exit__(None, None, None)

    assert "operator policy 'p'" in skipped.why
    assert leftovers(bench, broker) == []
    assert ids(bench) == [*FULL[1:], "parked"]


def test_a_consumer_that_comes_while_it_is_counted_is_no_mismatch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, "1", "2")
    none, consumed = QueueCounts(0, 0), QueueCounts(0, 1)

    migrated(bench, on_progress=fake_counts(monkeypatch, none, none, consumed))

    assert is_as(QUORUM, bench.url)


def test_a_message_of_an_earlier_batch_that_expires_is_no_mismatch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, "1", "2", expiration="600000")
    put(bench, *FULL)

    migrated(bench, on_progress=fake_counts(monkeypatch, QueueCounts(2, 0)))

    assert is_as(QUORUM, bench.url)


def test_what_does_not_arrive_is_counted_as_lost_where_that_is_accepted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, "1", "2")

    result = migrated(
        bench, accept_loss=True, on_progress=fake_counts(monkeypatch, QueueCounts(0, 0))
    )

    assert result.lost == 2

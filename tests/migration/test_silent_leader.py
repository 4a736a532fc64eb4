"""A quorum queue whose leader does not answer within 250 ms: a passive declaration then says that
it has no message and no consumer. What the broker would say is put in its place here, since a
leader cannot be made slow for so long and no longer."""

from __future__ import annotations

import time

import pika
import pytest

from attune_mq.broker.inspection import QueueCounts
from attune_mq.message.delivery import Delivery
from attune_mq.migration.context import MigrationTimeouts
from attune_mq.migration.control import Control
from attune_mq.migration.migrating import migrate
from attune_mq.migration.queue_reader import QueueReader
from attune_mq.migration.report import Progress, Step
from attune_mq.migration.temporary_topology import TemporaryNames
from tests.messaging.bench import QUEUE, Bench, topology_of
from tests.migration.bench import QUORUM, ids, is_as, put

LONGER = topology_of(type="quorum", ttl="1h")
PARKED = TemporaryNames(QUEUE).parking_queue
THIRD = pika.BasicProperties(message_id="3", delivery_mode=2)


class SilentLeader:
    """Of one queue: it neither answers nor delivers until ``until``, once it is :meth:`slow`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, queue: str) -> None:
        self._queue, self._until = queue, 0.0
        counts, take = Control.counts, QueueReader.take

        def counted(control: Control, name: str) -> QueueCounts | None:
            return QueueCounts(0, 0) if self._is_silent(name) else counts(control, name)

        def taken(reader: QueueReader, *, wait_s: float) -> list[Delivery]:
            if not self._is_silent(reader.queue):
                return take(reader, wait_s=wait_s)
            reader.wait_for_cancel(wait_s)
            return []

        monkeypatch.setattr(Control, "counts", counted)
        monkeypatch.setattr(QueueReader, "take", taken)

    def slow(self, for_s: float) -> None:
        self._until = time.monotonic() + for_s

    def _is_silent(self, queue: str) -> bool:
        return queue == self._queue and time.monotonic() < self._until


@pytest.fixture
def quorum(bench: Bench) -> Bench:
    bench.channel.queue_delete(QUEUE)
    bench.set_up(QUORUM)
    return bench


@pytest.mark.parametrize(
    ("queue", "step"), [(QUEUE, Step.DRAIN), (PARKED, Step.REFILL)], ids=["old", "parked"]
)
def test_a_queue_whose_leader_is_silent_is_not_deleted_with_what_is_in_it(
    quorum: Bench, monkeypatch: pytest.MonkeyPatch, queue: str, step: Step
) -> None:
    put(quorum, "1", "2")
    leader = SilentLeader(monkeypatch, queue)
    seen: list[Step] = []

    def see(progress: Progress) -> None:
        if progress.step is Step.DRAIN and Step.DRAIN not in seen:
            quorum.channel.confirm_delivery()
            quorum.channel.basic_publish("work", "requested", b"", THIRD, mandatory=True)
        if progress.step is step and step not in seen:
            leader.slow(2.5)
        seen.append(progress.step)

    migrate(LONGER, quorum.url, names=[QUEUE], on_progress=see)

    assert ids(quorum) == ["1", "2", "3"]
    assert is_as(LONGER, quorum.url)


def test_what_consumers_hold_is_waited_for_where_the_leader_was_silent_at_first(
    quorum: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(quorum, "held")
    holder = Bench(quorum.url)
    holder.channel.basic_consume(QUEUE, lambda *_: None)
    holder.connection.process_data_events(1)
    leader = SilentLeader(monkeypatch, QUEUE)

    def see(progress: Progress) -> None:
        if progress.step is Step.DRAIN:
            leader.slow(0.5)

    timeouts = MigrationTimeouts(settle_s=60, stall_s=3)
    skipped = migrate(LONGER, quorum.url, names=[QUEUE], timeouts=timeouts, on_progress=see).skipped
    holder.close()

    assert len(skipped) == 1, "it did not wait for the message that is held"
    assert ids(quorum) == ["held"]

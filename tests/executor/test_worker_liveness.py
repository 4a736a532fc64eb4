"""Which workers live is asked of the broker: of no more of them than it takes, and not for long."""

from __future__ import annotations

from collections.abc import Iterator

import pika
import pytest

from attune_executor import worker_liveness
from attune_executor.worker_liveness import WorkerQueues
from attune_mq import QueueInspector, load_topology


class Counting(QueueInspector):
    """Notes what it asks the broker."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[str] = []

    def consumer_count(self, queue: str) -> int | None:
        self.asked.append(queue)
        return super().consumer_count(queue)


def queue_of(worker_id: int) -> str:
    return f"worker.{worker_id}.executions"


@pytest.fixture
def living(broker_url: str) -> Iterator[int]:
    """The id of a worker whose queue somebody consumes."""
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue_of(2), durable=True)
        channel.basic_consume(queue_of(2), lambda *_: None)
        yield 2


@pytest.fixture
def inspector(broker_url: str) -> Iterator[Counting]:
    inspector = Counting(broker_url)
    yield inspector
    inspector.close()


@pytest.fixture
def workers(inspector: Counting) -> WorkerQueues:
    return WorkerQueues(load_topology(), inspector)


def test_workers_after_the_first_that_lives_are_not_asked_about(
    workers: WorkerQueues, inspector: Counting, living: int
) -> None:
    workers.ask_until_one_lives([1, living, 3])

    assert [workers.is_alive_cached(worker) for worker in (1, living, 3)] == [False, True, None]
    assert inspector.asked == [queue_of(1), queue_of(living)]


def test_an_answer_that_nobody_looked_at_is_not_asked_for_again(
    workers: WorkerQueues, inspector: Counting, living: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_liveness, "FRESH_S", 0.0)
    workers.ask_until_one_lives([1, living])
    workers.is_alive_cached(living)
    inspector.asked.clear()

    workers.refresh()

    assert inspector.asked == [queue_of(living)]
    assert [workers.is_alive_cached(1), workers.is_alive_cached(living)] == [None, True]


def test_an_answer_that_is_fresh_is_not_asked_for_again(
    workers: WorkerQueues, inspector: Counting, living: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_liveness, "FRESH_S", 3_600.0)
    workers.ask_until_one_lives([living])
    workers.is_alive_cached(living)
    inspector.asked.clear()

    workers.refresh()

    assert inspector.asked == []
    assert workers.is_alive_cached(living) is True

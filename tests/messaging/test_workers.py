"""Threads that run handlers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from attune_mq.amqp.worker_pool import WorkerPool
from tests.messaging.bench import WAIT_S, wait_for


class Work:
    """Items that wait in their work until they are let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.let_go = threading.Event()
        self._changed = threading.Condition()

    def __call__(self, item: int) -> None:
        with self._changed:
            self.begun.append(item)
            self._changed.notify_all()
        wait_for(self.let_go, "to be let go")

    def wait_for_begun(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, WAIT_S)


@contextmanager
def pool_of(work: Work, concurrency: int) -> Iterator[WorkerPool[int]]:
    pool = WorkerPool(work, concurrency=concurrency, name="pool")
    yield pool
    work.let_go.set()
    assert pool.close(WAIT_S)


def test_as_many_items_are_worked_on_at_once_as_is_said() -> None:
    work = Work()
    with pool_of(work, 3) as pool:
        for item in range(5):
            pool.submit([item])
        work.wait_for_begun(3)

        assert pool.running == 3
        assert sorted(work.begun) == [0, 1, 2]


def test_items_begin_in_the_order_in_which_they_came() -> None:
    work = Work()
    work.let_go.set()
    with pool_of(work, 1) as pool:
        for item in range(100):
            pool.submit([item])
        work.wait_for_begun(100)

    assert work.begun == list(range(100))


def test_what_has_not_begun_can_be_taken_back_and_never_begins() -> None:
    work = Work()
    with pool_of(work, 1) as pool:
        for item in range(3):
            pool.submit([item])
        work.wait_for_begun(1)

        assert pool.take_back() == [1, 2]
        assert pool.take_back() == []

    assert work.begun == [0]


def test_a_closed_pool_begins_nothing_and_ends_its_threads() -> None:
    work = Work()
    pool = WorkerPool(work, concurrency=2, name="closing")
    for item in range(3):
        pool.submit([item])
    work.wait_for_begun(2)

    assert pool.close(0) is False  # two are still at work
    work.let_go.set()

    assert pool.close(WAIT_S) is True
    assert sorted(work.begun) == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("closing")]


def test_waiting_until_it_is_idle_ends_with_the_last_item() -> None:
    work = Work()
    with pool_of(work, 2) as pool:
        pool.submit([1])
        work.wait_for_begun(1)

        assert pool.wait_until_idle(0) is False
        work.let_go.set()
        assert pool.wait_until_idle(WAIT_S) is True
        assert pool.running == 0


def test_a_defect_costs_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def work(item: int) -> None:
        if item == 0:
            raise RuntimeError("a defect")
        done.set()

    pool = WorkerPool(work, concurrency=1, name="pool")
    with caplog.at_level(logging.ERROR):
        pool.submit([0])
        pool.submit([1])
        wait_for(done, "the next item")

    assert "a defect" in caplog.text
    assert pool.close(WAIT_S)

"""Housekeeping and the watchdog begin at once, go on after an error, and say when they do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from attune_executor import periodic
from attune_executor.periodic import Periodic
from tests.executor.harness import eventually

AN_HOUR_S = 3_600.0


@contextmanager
def started(work: Periodic) -> Iterator[Periodic]:
    work.start()
    yield work
    work.stop(30)


def test_the_work_is_done_at_the_start_not_only_after_the_first_interval() -> None:
    done = threading.Event()

    with started(Periodic("work", AN_HOUR_S, done.set)):
        assert done.wait(30)


def test_work_that_fails_is_tried_again_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "RETRY_S", 0.01)
    may_work = threading.Event()
    calls: list[bool] = []

    def work() -> None:
        calls.append(may_work.is_set())
        if not may_work.is_set():
            raise RuntimeError("not yet")

    with started(Periodic("work", AN_HOUR_S, work)) as one:
        eventually(lambda: one.trouble == "RuntimeError" and len(calls) > 2)
        may_work.set()
        eventually(lambda: one.trouble is None)


def test_a_thread_that_does_not_run_is_told_and_may_be_stopped_before_it_was_started() -> None:
    work = Periodic("work", AN_HOUR_S, lambda: None)

    work.stop(1)
    assert work.trouble == "its thread does not run"

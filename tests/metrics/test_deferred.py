"""Deferred observations: nothing is counted twice or not at all, whoever counts when."""

from __future__ import annotations

import threading
from collections import Counter

from attune_mq.metrics.counters import MANY, Deferred


def test_observations_are_counted_when_they_are_asked_for() -> None:
    counted: list[str] = []
    deferred = Deferred(counted.extend)
    deferred.add("a")
    deferred.add("b")
    assert counted == []

    deferred.flush()
    deferred.flush()
    assert counted == ["a", "b"]


def test_observations_are_few_also_where_nobody_asks() -> None:
    counted: list[int] = []
    deferred = Deferred(counted.extend)
    for number in range(MANY + 1):
        deferred.add(number)

    assert counted == list(range(MANY))


def test_observations_of_many_threads_are_counted_once_each_while_others_count() -> None:
    counted: Counter[tuple[int, int]] = Counter()
    deferred: Deferred[tuple[int, int]] = Deferred(counted.update)
    each = 5 * MANY

    def work(thread: int) -> None:
        for number in range(each):
            deferred.add((thread, number))
            if number % 100 == 0:
                deferred.flush()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deferred.flush()

    assert counted == {(thread, number): 1 for thread in range(4) for number in range(each)}

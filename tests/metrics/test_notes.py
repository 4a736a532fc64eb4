"""Notes: nothing is counted twice or not at all, whoever counts when."""

from __future__ import annotations

import threading
from collections import Counter

from attune_mq.metrics.notes import MANY, Notes


def test_notes_are_counted_when_they_are_asked_for() -> None:
    counted: list[str] = []
    notes = Notes(counted.extend)
    notes.add("a")
    notes.add("b")
    assert counted == []

    notes.settle()
    notes.settle()
    assert counted == ["a", "b"]


def test_notes_are_few_also_where_nobody_asks() -> None:
    counted: list[int] = []
    notes = Notes(counted.extend)
    for number in range(MANY + 1):
        notes.add(number)

    assert counted == list(range(MANY))


def test_notes_of_many_threads_are_counted_once_each_while_others_count() -> None:
    counted: Counter[tuple[int, int]] = Counter()
    notes: Notes[tuple[int, int]] = Notes(counted.update)
    each = 5 * MANY

    def work(thread: int) -> None:
        for number in range(each):
            notes.add((thread, number))
            if number % 100 == 0:
                notes.settle()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes.settle()

    assert counted == {(thread, number): 1 for thread in range(4) for number in range(each)}

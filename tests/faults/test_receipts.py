"""What is held against what came out of the queues: receipts, refusals, and neither."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.journal import Journal, read_journal
from tests.faults.publisher_programs import Children
from tests.faults.receipts import ReceiptAccount, Said
from tests.faults.report import BEGIN, END, HEADING, Run, report, shown, write_report
from tests.faults.run import Verdict
from tests.faults.sending import Sender

SAID = {1: Said.RECEIPT, 2: Said.REFUSED, 3: Said.UNKNOWN}


def account(arrived: dict[int, int]) -> ReceiptAccount:
    return ReceiptAccount("queue", SAID, Counter(arrived))


@pytest.mark.parametrize("arrived", [{1: 1}, {1: 1, 3: 1}, {1: 1, 9: 1}])
def test_what_nothing_certain_was_said_of_may_have_arrived_or_not(arrived: dict[int, int]) -> None:
    assert account(arrived).problems() == []


@pytest.mark.parametrize(
    ("arrived", "problem"),
    [
        ({}, "queue: false receipts: 1 of 3: 1"),
        ({1: 1, 2: 1}, "queue: false refusals: 1 of 3: 2"),
        ({1: 2}, "queue: doubled: 1 of 3: 1"),
        ({1: 1, 3: 2}, "queue: doubled: 1 of 3: 3"),
    ],
)
def test_a_word_that_is_not_so_is_a_problem(arrived: dict[int, int], problem: str) -> None:
    assert account(arrived).problems() == [problem]


def test_a_journal_keeps_whole_what_threads_and_forked_children_say(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    children = Children(Sender("", journal), journal)
    waits = [
        way(lambda first=first: write(journal, first))  # type: ignore[misc]
        for first, way in zip((1_000, 2_000), children.ways, strict=True)
    ]
    threads = [threading.Thread(target=write, args=(journal, first)) for first in (3_000, 4_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [wait() for wait in waits] == [0, 0]

    entries = read_journal(tmp_path / "journal")

    numbers = {first + one for first in (1_000, 2_000, 3_000, 4_000) for one in range(500)}
    assert entries.said == dict.fromkeys(numbers, Said.RECEIPT)
    assert entries.faults == {"a fork": 4}
    assert entries.problems == ["it is late"] * 4


def write(journal: Journal, first: int) -> None:
    journal.fault("a fork")
    for number in range(first, first + 500):
        journal.said(number, Said.RECEIPT)
    journal.problem("it is late")


def test_each_of_these_is_a_problem_of_the_run() -> None:
    verdict = Verdict(receipts=[account({2: 2})])

    assert verdict.problems() == [
        "queue: false receipts: 1 of 3: 1",
        "queue: false refusals: 1 of 3: 2",
        "queue: doubled: 1 of 3: 2",
    ]


def test_the_report_has_a_row_for_each_run_and_for_each_fault() -> None:
    verdict = Verdict(
        receipts=[account({2: 2})], faults=Counter({"a fork": 7}), lasted_s=90, messages=5
    )

    lines = list(report([Run("publisher", verdict)], "3.10.8", []))

    assert "| publisher | 1.5 | 5 | 0 | 7 | 0 | 1 | 1 | 1 | 3 |" in lines
    assert "| a fork | 7 | not waited for | not waited for |" in lines


def test_the_report_of_one_rabbitmq_leaves_that_of_another(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")

    for name, version in (("first", "4.3.6"), ("other", "3.10.8"), ("second", "4.3.6")):
        write_report(page, [Run(name, Verdict())], version, [])

    written = page.read_text()
    assert [line for line in written.splitlines() if line.startswith(HEADING)] == [
        f"{HEADING}3.10",
        f"{HEADING}4.3",
    ]
    assert "| other |" in written
    assert "| second |" in written
    assert "| first |" not in written
    assert written.startswith("before")
    assert written.endswith("after\n")


def test_the_report_does_not_say_where_a_rabbitmq_lies_on_one_machine() -> None:
    arguments = ["--seed", "7", "--root", "/somewhere", "--write"]

    assert shown(arguments) == ["--seed", "7", "--write"]

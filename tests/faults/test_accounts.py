"""The accounts find what is wrong, and the schedule can be had again."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from tests.faults.accounts import Account
from tests.faults.kinds import KINDS
from tests.faults.report import BEGIN, END, REPORT
from tests.faults.schedule import schedule

KINDS_OF_IT = tuple(KINDS)


def account(effects: dict[int, int], dead: dict[int, str]) -> Account:
    """Of 1 to 3, which are to have an effect, and 4, which is to be given up."""
    return Account("messages", frozenset({1, 2, 3}), frozenset({4}), Counter(effects), dead)


def test_an_account_that_balances_has_no_problem() -> None:
    assert account({1: 1, 2: 1, 3: 1}, {4: "rejected"}).problems() == []


@pytest.mark.parametrize(
    ("effects", "dead", "said"),
    [
        ({1: 1, 2: 1}, {4: "rejected"}, "messages: lost: 3"),
        ({1: 1, 2: 1, 3: 1}, {}, "messages: lost: 4"),
        ({1: 1, 2: 2, 3: 1}, {4: "rejected"}, "messages: doubled: 2"),
        ({1: 1, 2: 1, 3: 1, 4: 1}, {4: "rejected"}, "messages: doubled: 4"),
        ({1: 1, 2: 1, 3: 1, 9: 1}, {4: "rejected"}, "messages: unasked: 9"),
        ({1: 1, 2: 1}, {3: "redelivered", 4: "rejected"}, "messages: unasked: 3"),
        ({1: 1, 2: 1, 3: 1}, {4: ""}, "messages: unexplained: 4"),
    ],
)
def test_an_account_says_what_does_not_balance(
    effects: dict[int, int], dead: dict[int, str], said: str
) -> None:
    assert said in account(effects, dead).problems()


def test_the_same_seed_makes_the_same_schedule() -> None:
    def first(seed: int) -> list[object]:
        return list(islice(schedule(seed, KINDS_OF_IT), 50))

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_each_kind_of_fault_comes_once_before_any_comes_again() -> None:
    planned = islice(schedule(3, KINDS_OF_IT), len(KINDS_OF_IT))

    assert {one.kind for one in planned} == set(KINDS_OF_IT)


def test_the_page_has_a_place_for_the_report() -> None:
    page = REPORT.read_text(encoding="utf-8")

    assert page.index(BEGIN) < page.index(END)

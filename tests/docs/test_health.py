"""What the page says of times and answers is what the code has."""

from __future__ import annotations

import json

import pytest

from attune_mq.amqp import liveness
from attune_mq.consuming import registration, status
from attune_mq.health import checks, topology_watch
from attune_mq.health.checks import CheckHistory
from attune_mq.health.monitor import as_json
from attune_mq.publishing import confirm_connection
from attune_mq.transactional import database_watch
from tests.docs.markdown import page

PAGE = page("health.md")
BOUNDS = {row["fault"]: row["bound"] for row in PAGE.rows_under("Detection times")}


@pytest.mark.parametrize(
    ("said", "value_s"),
    [
        ("queries its broker every {} s", registration.ASK_EVERY_S),
        ("A reply counts for {} s", checks.ANSWER_MAX_AGE_S),
        ("After {} s it is replaced", liveness.GIVE_UP_AFTER_S),
        ("its I/O loop has not run for {} s", checks.STUCK_AFTER_S),
        ("does not answer within {} s is logged", topology_watch.LISTED_WITHIN_S),
        ("or {} minutes, half of the time", status.DEFAULT_DEADLINE_MS / 60_000),
        ("has been opened for {} s", confirm_connection.WATCHDOG_S),
        (
            "that of the topology's verification after {} s",
            topology_watch.VERIFY_EVERY_S + topology_watch.ANSWERED_WITHIN_S,
        ),
    ],
)
def test_the_times_are_those_of_the_code(said: str, value_s: float) -> None:
    assert said.format(f"{value_s:g}") in " ".join(PAGE.text.split())


def test_the_bounds_are_those_of_the_code() -> None:
    assert BOUNDS["broker frozen"] == f"{checks.ANSWER_MAX_AGE_S:g} s"
    for fault in ("exchange deleted", "binding deleted"):
        assert BOUNDS[fault] == f"{topology_watch.VERIFY_EVERY_S:g} s"
    databases = "SQLite locked, PostgreSQL stopped, its table locked"
    assert BOUNDS[databases] == f"{database_watch.GOOD_FOR_S:g} s"


def test_the_answer_that_is_shown_has_the_form_of_one() -> None:
    [shown] = [json.loads(block.text) for block in PAGE.blocks_of("json")]
    answer = as_json(CheckHistory(lambda: [checks.Check("a check", lambda: "it is red")]).report())

    assert shown.keys() == answer.keys()
    assert shown["troubles"][0].keys() == answer["troubles"][0].keys()

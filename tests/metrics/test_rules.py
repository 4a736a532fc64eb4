"""The alert rules and the dashboard that ship: what they name is there, and alerts fire."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from attune_mq.metrics import Metrics
from attune_mq.transactional import Backlog
from tests.messaging.bench import topology_of
from tests.metrics.rules import (
    ALERTS,
    ALERTS_FILE,
    DASHBOARD,
    REPOSITORY,
    dashboard_expressions,
    known_names,
    metric_names,
    needs_promtool,
    promtool,
)

ALERT_NAMES = [alert["alert"] for alert in ALERTS]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("alert", ALERTS, ids=ALERT_NAMES)
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_its_runbook_is(
    alert: dict[str, Any],
) -> None:
    page, _, anchor = alert["annotations"]["runbook"].partition("#")

    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert anchor in anchors(REPOSITORY / page)


@pytest.mark.parametrize("alert", ALERTS, ids=ALERT_NAMES)
def test_an_alert_names_metrics_that_are_there(alert: dict[str, Any]) -> None:
    assert metric_names(alert["expr"])
    assert metric_names(alert["expr"]) <= known_names()


def test_a_metric_that_is_not_there_is_found() -> None:
    expression = 'sum by (queue) (rate(attune_mq_typo_total{type="x"}[5m])) > 0'
    assert metric_names(expression) == {"attune_mq_typo_total"}


def test_the_dashboard_names_metrics_that_are_there() -> None:
    unknown = {
        (title, name)
        for title, expression in dashboard_expressions()
        for name in metric_names(expression) - known_names()
    }
    assert unknown == set()


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    shown = {name for _, expression in dashboard_expressions() for name in metric_names(expression)}
    ours = {re.sub("_(bucket|count|sum)$", "", name) for name in known_names()} - {"up"}
    assert {re.sub("_bucket$", "", name) for name in shown} == ours


def test_no_two_panels_of_the_dashboard_lie_upon_each_other_or_share_an_id() -> None:
    places: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        covered = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not covered & places, panel["title"]
        places |= covered
    assert len(ids) == len(set(ids))
    assert max(x for x, _ in places) < 24


def test_the_dashboard_uses_the_variables_that_it_asks_for() -> None:
    asked = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", "".join(e for _, e in dashboard_expressions())))
    assert used - {"__rate_interval"} <= asked


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(ALERTS_FILE))


@needs_promtool
def test_prometheus_can_read_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))


@needs_promtool
def test_prometheus_finds_nothing_to_say_against_the_names_of_our_metrics() -> None:
    metrics = Metrics(topology_of())
    metrics.watch_outbox(lambda: Backlog(0, 0.0))
    _, body = metrics.exposition()
    ours = [line for line in body.decode().splitlines() if "attune_mq" in line]

    promtool("check", "metrics", stdin="\n".join([*ours, ""]).encode())


CONSUMER = 'job="attune-executor",instance="a",queue="q",tag="t"'
TYPE = f'{CONSUMER},type="T"'
MESSAGE = 'job="attune-executor",instance="a",exchange="e",type="T"'
QUEUE = 'job="attune-executor",instance="a",queue="q",purpose="main"'

WELL = {
    'up{job="attune-executor",instance="a"}': "1",
    f'attune_mq_consumer_state{{{CONSUMER},state="consuming"}}': "1",
    f'attune_mq_consumer_state{{{CONSUMER},state="paused"}}': "0",
    f"attune_mq_consumer_in_flight{{{CONSUMER}}}": "3",
    f"attune_mq_handling_seconds_count{{{TYPE}}}": "0+600x",
    f"attune_mq_messages_delivered_total{{{CONSUMER}}}": "0+600x",
    f"attune_mq_messages_redelivered_total{{{CONSUMER}}}": "0+1x",
    f"attune_mq_messages_retried_total{{{TYPE}}}": "0+6x",
    f'attune_mq_messages_dead_lettered_total{{{TYPE},reason="rejected"}}': "0",
    f'attune_mq_messages_dead_lettered_total{{{TYPE},reason="unhandled"}}': "0",
    f'attune_mq_messages_dropped_total{{{TYPE},reason="rejected"}}': "0",
    f'attune_mq_time_in_queue_seconds_bucket{{{TYPE},le="60.0"}}': "0+600x",
    f'attune_mq_time_in_queue_seconds_bucket{{{TYPE},le="300.0"}}': "0+600x",
    f'attune_mq_time_in_queue_seconds_bucket{{{TYPE},le="+Inf"}}': "0+600x",
    f"attune_mq_queue_messages_ready{{{QUEUE}}}": "500",
    f"attune_mq_queue_consumers{{{QUEUE}}}": "2",
    f"attune_mq_queue_messages_ready{{{QUEUE.replace('main', 'dead_letter')}}}": "0",
    f"attune_mq_messages_unroutable_total{{{MESSAGE}}}": "0",
    f"attune_mq_messages_refused_total{{{MESSAGE}}}": "0",
    f"attune_mq_messages_unconfirmed_total{{{MESSAGE}}}": "0",
    'attune_mq_connection_blocked{job="attune-executor",instance="a",connection="p"}': "0",
    'attune_mq_connections_lost_total{job="attune-executor",instance="a",connection="p"}': "0",
    'attune_mq_outbox_oldest_seconds{job="attune-executor",instance="a"}': "0.2",
    'attune_mq_database_up{job="attune-executor",instance="a"}': "1",
}
"""A series of each metric that an alert looks at, while all is well, a value a minute."""

ILL: dict[str, dict[str, str]] = {
    "ExecutorDown": {" up{": "0"},
    "ConsumerNotConsuming": {'state="consuming"': "0"},
    "ConsumerPaused": {'state="paused"': "1", 'state="consuming"': "0"},
    "HandlersStandStill": {"handling_seconds_count": "600"},
    "QueueWithoutConsumer": {"queue_consumers": "0"},
    "QueueGrows": {'ready{job="attune-executor",instance="a",queue="q",purpose="main"': "0+20x"},
    "MessagesWaitLong": {'le="60.0"': "0+60x"},
    "DeadLettersArrive": {f'lettered_total{{{TYPE},reason="rejected"': "0x50 1x100"},
    "MessagesUnhandled": {f'lettered_total{{{TYPE},reason="unhandled"': "0x50 1x100"},
    "DeadLettersWait": {'purpose="dead_letter"': "4"},
    "MessagesDropped": {"dropped_total": "0x50 1x100"},
    "MessagesRetried": {"retried_total": "0+300x"},
    "MessagesRedelivered": {"redelivered_total": "0+300x"},
    "MessagesUnroutable": {"unroutable_total": "0x50 1x100"},
    "MessagesRefused": {"refused_total": "0x50 1x100"},
    "PublishingBlocked": {"connection_blocked": "1", "unconfirmed_total": "0+1x"},
    "MessagesUnconfirmed": {"unconfirmed_total": "0+1x"},
    "OutboxGrows": {"outbox_oldest": "0+60x"},
    "DatabaseDown": {"database_up": "0"},
    "ConnectionsLost": {"connections_lost": "0+1x"},
}
"""What is different when an alert has to fire, by a part of the name of a series."""
HOURS = {"DeadLettersWait": 13}
"""How long it takes an alert to be sure, where an hour does not do."""


def series(changes: dict[str, str], minutes: int) -> list[dict[str, str]]:
    return [
        {
            "series": name,
            "values": _filled(
                next((values for part, values in changes.items() if part in f" {name}"), steady),
                minutes,
            ),
        }
        for name, steady in WELL.items()
    ]


def _filled(values: str, minutes: int) -> str:
    """``5``: the same all the time; ``0+5x``: up to the end."""
    if values.endswith("x"):
        return f"{values}{minutes}"
    return values if "x" in values else f"{values}x{minutes}"


def unit_test(name: str, changes: dict[str, str], expected: list[str]) -> dict[str, Any]:
    minutes = 60 * HOURS.get(name, 1)
    return {
        "name": name,
        "interval": "1m",
        "input_series": series(changes, minutes),
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minutes}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{one}"}}', "value": 1} for one in expected
                ],
            }
        ],
    }


@needs_promtool
def test_each_alert_fires_on_its_symptom_and_on_no_other(tmp_path: Path) -> None:
    quick = [unit_test(one, changes, [one]) for one, changes in ILL.items() if one not in HOURS]

    assert list(ILL) == ALERT_NAMES
    judge(tmp_path, [unit_test("all is well", {}, []), *quick], every="5m")


@needs_promtool
@pytest.mark.parametrize("alert", HOURS)
def test_an_alert_that_takes_hours_fires_then(tmp_path: Path, alert: str) -> None:
    judge(tmp_path, [unit_test(alert, ILL[alert], [alert])], every="20m")


def judge(folder: Path, tests: list[dict[str, Any]], *, every: str) -> None:
    document = {"rule_files": [str(ALERTS_FILE)], "evaluation_interval": every, "tests": tests}
    file = folder / "tests.yml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")

    assert "SUCCESS" in promtool("test", "rules", str(file))

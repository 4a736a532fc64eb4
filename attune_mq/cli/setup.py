"""Create what the topology declares and the broker lacks. Existing objects are not changed."""

from __future__ import annotations

import argparse
from typing import Any, Literal

from attune_mq.broker import report as outcomes
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.cli.context import Context, add_selection, selected
from attune_mq.cli.output import object_as_json, title
from attune_mq.exit_codes import setup_code

LISTS = (
    "created",
    "ensured",
    "unchanged",
    "conflicts",
    "refused",
    "invalid",
    "missing",
    "unknown",
)
"""Each object of the file is in exactly one of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--verify", action="store_true", help="only compare, create nothing")


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = selected(arguments, context)
    mode: Literal["create", "verify"] = "verify" if arguments.verify else "create"
    try:
        report = setup_infrastructure(
            topology, context.broker(), mode=mode, management_url=context.management_url
        )
    except outcomes.MissingInfrastructure as error:
        _show(error.report, context)
        raise
    _show(report, context)
    return setup_code(report)


def as_json(report: outcomes.SetupReport) -> dict[str, list[dict[str, Any]]]:
    return {name: [object_as_json(outcome) for outcome in getattr(report, name)] for name in LISTS}


def _show(report: outcomes.SetupReport, context: Context) -> None:
    if context.is_json:
        context.emit(as_json(report))
        return
    for outcome in report.outcomes:
        if line := _line(outcome):
            context.line(line)
    context.line(_summary(report))


def _line(outcome: outcomes.Outcome) -> str | None:
    match outcome:
        case outcomes.Ensured() | outcomes.Unchanged():
            return None
        case outcomes.Created():
            return f"created    {title(outcome.declaration)}"
        case outcomes.Conflict():
            return f"different  {outcome}"
        case outcomes.Refused():
            return f"refused    {outcome}"
        case outcomes.Invalid():
            return f"invalid    {outcome}"
        case outcomes.Missing():
            return f"missing    {outcome}"
        case outcomes.Unknown(detail=detail):
            return f"unknown    {title(outcome.declaration)}: {detail}"


def _summary(report: outcomes.SetupReport) -> str:
    counts = {name: len(getattr(report, name)) for name in LISTS}
    label = {"conflicts": "different"}
    summary = ", ".join(f"{n} {label.get(name, name)}" for name, n in counts.items() if n)
    unseen = [
        one.declaration
        for one in report.outcomes
        if isinstance(one, outcomes.Ensured | outcomes.Unknown)
    ]
    if any(one.kind == "binding" for one in unseen):
        summary += "; AMQP does not show whether a binding exists: give --management-url"
    return summary or "nothing to set up"

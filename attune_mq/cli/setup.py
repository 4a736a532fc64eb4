"""``attune-mq setup``: makes what is missing; changes nothing that is there."""

from __future__ import annotations

import argparse
from typing import Any, Literal

from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.report import (
    Conflict,
    Created,
    Ensured,
    Invalid,
    Missing,
    MissingInfrastructure,
    Outcome,
    Refused,
    SetupReport,
    Unchanged,
    Unknown,
)
from attune_mq.cli.context import Context
from attune_mq.cli.objects import in_conflict, named, not_known, printable
from attune_mq.cli.selection import add_selection, selected
from attune_mq.exit_codes import setup_code

SUMMARY = "Make what the topology says and the broker lacks. Nothing that is there is changed."
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
"""Each object of the file is in one of them, and in one only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--verify", action="store_true", help="create nothing, only compare")


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = selected(context.topology(), arguments)
    mode: Literal["create", "verify"] = "verify" if arguments.verify else "create"
    try:
        report = setup_infrastructure(
            topology, context.broker(), mode=mode, management_url=context.management_url
        )
    except MissingInfrastructure as error:
        _show(error.report, context)
        raise
    _show(report, context)
    return setup_code(report)


def as_json(report: SetupReport) -> dict[str, list[dict[str, Any]]]:
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
    for outcome in report.outcomes:
        name, told = _listed(outcome)
        lists[name].append(told)
    return lists


def _listed(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """Its list, and what it says there."""
    told = named(outcome.declaration)
    match outcome:
        case Created():
            return "created", told
        case Ensured():
            return "ensured", told
        case Unchanged():
            return "unchanged", told
        case Conflict():
            return "conflicts", in_conflict(outcome)
        case Refused(permission=permission, detail=detail):
            return "refused", told | {"permission": permission, "detail": detail}
        case Invalid(detail=detail):
            return "invalid", told | {"detail": detail}
        case Missing(detail=detail):
            return "missing", told | {"detail": detail}
        case Unknown():
            return "unknown", not_known(outcome)


def _show(report: SetupReport, context: Context) -> None:
    if context.is_json:
        context.emit(as_json(report))
        return
    for outcome in report.outcomes:
        if line := _line(outcome):
            context.line(line)
    context.line(_summary(report))


def _line(outcome: Outcome) -> str | None:
    thing = f"{outcome.declaration.kind} {printable(outcome.declaration.name)}"
    match outcome:
        case Created():
            return f"created    {thing}"
        case Conflict():
            return f"different  {printable(str(outcome))}"
        case Refused():
            return f"refused    {printable(str(outcome))}"
        case Invalid():
            return f"invalid    {printable(str(outcome))}"
        case Missing():
            return f"missing    {printable(str(outcome))}"
        case Unknown(detail=detail):
            return f"unknown    {thing}: {printable(detail)}"
        case Ensured() | Unchanged():
            return None


def _summary(report: SetupReport) -> str:
    counts = {name: len(some) for name, some in as_json(report).items()}
    words = {"conflicts": "different"}
    said = ", ".join(f"{count} {words.get(name, name)}" for name, count in counts.items() if count)
    seen_by_api = any(
        isinstance(one, Ensured | Unknown) and one.declaration.kind == "binding"
        for one in report.outcomes
    )
    hint = "; AMQP does not show whether a binding is there: give --management-url"
    return f"{said or 'the file has nothing to set up'}{hint if seen_by_api else ''}"

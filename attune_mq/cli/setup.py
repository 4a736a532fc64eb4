"""``attune-mq setup``: makes what is missing; changes nothing that is there."""

from __future__ import annotations

import argparse
from typing import Any, Literal

from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.report import MissingInfrastructure, Outcome, SetupReport
from attune_mq.cli.context import CONFLICT, OK, REFUSED, Context
from attune_mq.cli.selection import add_selection, selected

SUMMARY = "Make what the topology says and the broker lacks. Nothing that is there is changed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--verify", action="store_true", help="create nothing, only look")


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = selected(context.topology(), arguments)
    mode: Literal["create", "verify"] = "verify" if arguments.verify else "create"
    try:
        report = setup_infrastructure(topology, context.broker(), mode=mode)
    except MissingInfrastructure as error:
        _show(error.report, context)
        raise
    _show(report, context)
    if report.conflicts:
        return CONFLICT
    return REFUSED if report.refused else OK


def _show(report: SetupReport, context: Context) -> None:
    if context.is_json:
        context.emit(as_json(report))
        return
    for created in report.created:
        context.line(f"created    {created.declaration.kind} {created.declaration.name}")
    for conflict in report.conflicts:
        context.line(f"different  {conflict}")
    for refused in report.refused:
        context.line(f"refused    {refused}")
    counts = (
        len(report.created),
        len(report.unchanged),
        len(report.conflicts),
        len(report.refused),
    )
    context.line("{} created, {} unchanged, {} different, {} refused".format(*counts))


def as_json(report: SetupReport) -> dict[str, list[dict[str, Any]]]:
    return {
        "created": [_named(one) for one in report.created],
        "unchanged": [_named(one) for one in report.unchanged],
        "conflicts": [
            _named(one)
            | {
                "field": one.field,
                "expected": one.expected,
                "found": one.found,
                "where": one.where._asdict(),
            }
            for one in report.conflicts
        ],
        "refused": [
            _named(one) | {"permission": one.permission, "detail": one.detail}
            for one in report.refused
        ],
    }


def _named(outcome: Outcome) -> dict[str, Any]:
    return {"kind": outcome.declaration.kind, "name": outcome.declaration.name}

"""``attune-mq check``: for probes. The exit code says it; what is printed says why."""

from __future__ import annotations

import argparse
from typing import Any

from attune_mq.broker.plan import Health, check
from attune_mq.cli.context import Context
from attune_mq.cli.objects import in_conflict, named, not_known, place, printable
from attune_mq.cli.selection import add_selection, selected
from attune_mq.exit_codes import answer_code, may_not_look

SUMMARY = (
    "Say whether everything is there that the file or a service needs, and whether its consumers "
    "are. Exits 0 when all that is seen is well, 1 when something is missing, 4 when the user may "
    "not look, 5 when something is different."
)
_PRESENCE = {True: "is there", False: "is not there", None: "cannot be seen over AMQP"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = selected(context.topology(), arguments)
    health = check(topology, context.broker(), management_url=context.management_url)
    if context.is_json:
        context.emit(as_json(health))
    else:
        _show(health, context)
    return answer_code(
        conflicts=health.conflicts,
        refused=may_not_look(health.unknown),
        found=not health.healthy,
    )


def as_json(health: Health) -> dict[str, Any]:
    return {
        "healthy": health.healthy,
        "missing": [named(one.declaration) for one in health.missing],
        "conflicts": [in_conflict(one) for one in health.conflicts],
        "consumers": [
            {"tag": one.tag, "queue": one.queue, "present": one.present} for one in health.consumers
        ],
        "unknown": [not_known(one) for one in health.unknown],
    }


def _show(health: Health, context: Context) -> None:
    for missing in health.missing:
        thing = f"{missing.declaration.kind} {printable(missing.declaration.name)}"
        context.line(f"missing    {thing}  ({place(missing.where)})")
    for conflict in health.conflicts:
        thing = f"{conflict.declaration.kind} {printable(conflict.declaration.name)}"
        differs = f"{conflict.field}: expected {conflict.expected}, found {conflict.found}"
        context.line(f"different  {thing}  {printable(differs)}  ({place(conflict.where)})")
    for consumer in health.consumers:
        on = printable(consumer.queue) or "a queue of its own"
        context.line(f"consumer   {consumer.tag} on {on} {_PRESENCE[consumer.present]}")
    for unknown in may_not_look(health.unknown):
        thing = f"{unknown.declaration.kind} {printable(unknown.declaration.name)}"
        context.line(f"unknown    {thing}  {printable(unknown.detail)}")
    context.line("healthy" if health.healthy else "not healthy")

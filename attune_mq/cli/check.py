"""Check that everything exists that the file or a service needs, and that its consumers are
connected. Exit code 0: everything visible is well; 1: something is missing; 4: a permission to look
is missing; 5: something is different."""

from __future__ import annotations

import argparse
from typing import Any

from attune_mq.broker.planning import Health, check
from attune_mq.cli.context import Context, add_selection, selected
from attune_mq.cli.output import object_as_json, place, title
from attune_mq.exit_codes import comparison_code, not_permitted

_PRESENCE = {True: "is connected", False: "is not connected", None: "is not visible over AMQP"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = selected(arguments, context)
    health = check(topology, context.broker(), management_url=context.management_url)
    if context.is_json:
        context.emit(as_json(health))
    else:
        _show(health, context)
    refused = not_permitted(health.unknown)
    return comparison_code(conflicts=health.conflicts, refused=refused, differs=not health.healthy)


def as_json(health: Health) -> dict[str, Any]:
    return {
        "healthy": health.healthy,
        "missing": [object_as_json(one) for one in health.missing],
        "conflicts": [object_as_json(one) for one in health.conflicts],
        "consumers": [
            {"tag": one.tag, "queue": one.queue, "present": one.present} for one in health.consumers
        ],
        "unknown": [object_as_json(one) for one in health.unknown],
    }


def _show(health: Health, context: Context) -> None:
    for missing in health.missing:
        context.line(f"missing    {title(missing.declaration)}  ({place(missing.where)})")
    for one in health.conflicts:
        differs = f"{one.field}: expected {one.expected}, found {one.found}"
        context.line(f"different  {title(one.declaration)}  {differs}  ({place(one.where)})")
    for consumer in health.consumers:
        queue = consumer.queue or "a server-named queue"
        context.line(f"consumer   {consumer.tag} on {queue} {_PRESENCE[consumer.present]}")
    for unknown in not_permitted(health.unknown):
        context.line(f"unknown    {title(unknown.declaration)}  {unknown.detail}")
    context.line("healthy" if health.healthy else "not healthy")

"""A migration in words, and in JSON."""

from __future__ import annotations

from typing import Any

from attune_mq.cli.objects import printable
from attune_mq.migration.report import Migrated, MigratedExchange, Migration, Planned, Skipped
from attune_mq.topology.equivalence import written


def planned(one: Planned) -> list[str]:
    """A line of its own for each property that differs."""
    told = [f"{one.messages} messages, {one.consumers} consumers"] if one.kind == "queue" else []
    if one.unfinished:
        told.append("begun before, goes on")
    head = f"{one.kind} {printable(one.name)}"
    return [
        f"{head} ({'; '.join(told)})" if told else head,
        *(
            f"    {printable(each.field)}: {printable(written(each.found))} -> "
            f"{printable(written(each.expected))}"
            for each in one.differences
        ),
    ]


def migrated(one: Migrated) -> str:
    if isinstance(one, MigratedExchange):
        return f"migrated  exchange {printable(one.exchange)}: {one.seconds:.1f} s"
    known = f", {one.recognised} known from before" if one.recognised else ""
    lost = f", {one.lost} LOST" if one.lost else ""
    unseen = f" (not seen: {', '.join(one.unseen)}; give --management-url)" if one.unseen else ""
    return (
        f"migrated  queue {printable(one.queue)}: {one.moved} messages moved, {one.parked} parked "
        f"meanwhile{known}{lost}, {one.seconds:.1f} s{unseen}"
    )


def skipped(one: Skipped) -> str:
    return f"skipped   {one.kind} {printable(one.name)}: {printable(one.why)}"


def as_json(result: Migration, *, dry_run: bool) -> dict[str, Any]:
    """A dry run has the key ``planned`` beside the two."""
    shown: dict[str, Any] = {
        "migrated": [_migrated(one) for one in result.migrated],
        "skipped": [{one.kind: one.name, "reason": one.why} for one in result.skipped],
    }
    if dry_run:
        shown["planned"] = [_planned(one) for one in result.planned]
    return shown


def _migrated(one: Migrated) -> dict[str, Any]:
    seconds = round(one.seconds, 3)
    if isinstance(one, MigratedExchange):
        return {"exchange": one.exchange, "seconds": seconds}
    return {
        "queue": one.queue,
        "moved": one.moved,
        "seconds": seconds,
        "parked": one.parked,
        "recognised": one.recognised,
        "lost": one.lost,
        "unseen": list(one.unseen),
    }


def _planned(one: Planned) -> dict[str, Any]:
    counts = {"messages": one.messages, "consumers": one.consumers} if one.kind == "queue" else {}
    changes = [
        {"field": each.field, "expected": written(each.expected), "found": written(each.found)}
        for each in one.differences
    ]
    return {one.kind: one.name, **counts, "unfinished": one.unfinished, "changes": changes}

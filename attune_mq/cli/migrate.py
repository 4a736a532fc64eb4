"""``attune-mq migrate``: changes in place what RabbitMQ cannot change in place."""

from __future__ import annotations

import argparse
from typing import Any

from attune_mq.cli.context import CONFLICT, FOUND, OK, Context
from attune_mq.cli.objects import printable
from attune_mq.cli.progress import Progress as Bar
from attune_mq.errors import InvalidInput
from attune_mq.migration.migrating import (
    DEFAULT_PATIENCE_S,
    Migration,
    Patience,
    Planned,
    migrate,
)
from attune_mq.migration.queue_migration import Migrated, Progress, Step
from attune_mq.topology.durations import parse_duration_ms
from attune_mq.topology.equivalence import written

SUMMARY = (
    "Change in place what RabbitMQ cannot change in place: type, TTL, dead letter exchange, "
    "durability and other arguments of queues, while messages flow. Loses none. What was "
    "interrupted goes on when it is called again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "queues",
        metavar="QUEUE",
        nargs="*",
        help="by its name on the broker or its key in the file; all that differ unless given",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; do nothing")
    parser.add_argument(
        "--settle",
        metavar="DURATION",
        help="without the HTTP API: no consumer holds a message for longer than this, such as 30s",
    )
    parser.add_argument(
        "--patience",
        metavar="DURATION",
        default=f"{DEFAULT_PATIENCE_S:g}s",
        help="how long a queue may fail to get empty before it is left as it was (default: 10m)",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    telling = _Telling(context)
    patience = Patience(
        settle_s=_seconds("--settle", arguments.settle),
        limit_s=_seconds("--patience", arguments.patience) or 0.0,
    )
    try:
        result = migrate(
            context.topology(),
            context.broker(),
            queues=arguments.queues,
            management_url=context.management_url,
            dry_run=arguments.dry_run,
            patience=patience,
            on_plan=telling.plan,
            on_progress=telling.progress,
        )
    except BaseException:
        telling.ended_early()
        raise
    telling.result(result, dry_run=arguments.dry_run)
    if result.skipped:
        return CONFLICT if result.unresolved else OK
    return FOUND if arguments.dry_run and result.planned else OK


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration_ms(text) / 1000
    except ValueError as error:
        raise InvalidInput(f"{option}: expected {error}, got {text!r}") from None


def as_json(result: Migration, *, dry_run: bool) -> dict[str, Any]:
    """A dry run has the key ``planned`` beside the two."""
    shown: dict[str, Any] = {
        "migrated": [
            {
                "queue": one.queue,
                "moved": one.moved,
                "seconds": round(one.seconds, 3),
                "parked": one.parked,
                "recognised": one.recognised,
            }
            for one in result.migrated
        ],
        "skipped": [{"queue": one.queue, "reason": one.why} for one in result.skipped],
    }
    if dry_run:
        shown["planned"] = [_planned(one) for one in result.planned]
    return shown


def _planned(one: Planned) -> dict[str, Any]:
    return {
        "queue": one.queue,
        "messages": one.messages,
        "consumers": one.consumers,
        "unfinished": one.unfinished,
        "changes": [
            {
                "field": difference.field,
                "expected": written(difference.expected),
                "found": written(difference.found),
            }
            for difference in one.differences
        ],
    }


class _Telling:
    """What it is about to do and does, on standard error; the result on standard output."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._messages: dict[str, int] = {}
        self._bar: Bar | None = None
        self._at: tuple[str, Step] | None = None

    def plan(self, planned: tuple[Planned, ...]) -> None:
        for one in planned:
            self._messages[one.queue] = one.messages
            for line in _in_words(one):
                self._context.note(line)

    def progress(self, progress: Progress) -> None:
        at = (progress.queue, progress.step)
        if at != self._at:
            self._at = at
            self._close()
            what = f"{printable(progress.queue)}: {progress.step.value}"
            self._bar = Bar(what, max(self._messages.get(progress.queue, 0), progress.moved))
        if self._bar is not None:
            self._bar.update(progress.moved)

    def ended_early(self) -> None:
        self._close()
        if self._at is not None:
            queue, step = self._at
            self._context.note(
                f"attune-mq: ended while {step.value} of {printable(queue)}; no message is lost; "
                f"call it again to go on"
            )

    def result(self, result: Migration, *, dry_run: bool) -> None:
        self._close()
        if self._context.is_json:
            self._context.emit(as_json(result, dry_run=dry_run))
            return
        for one in result.migrated:
            self._context.line(_migrated(one))
        for skipped in result.skipped:
            self._context.line(f"skipped   {printable(skipped.queue)}: {skipped.why}")
        would = (
            f"{len(result.planned)} to migrate" if dry_run else f"{len(result.migrated)} migrated"
        )
        self._context.line(f"{would}, {len(result.skipped)} skipped")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _in_words(one: Planned) -> list[str]:
    again = "; begun before, goes on" if one.unfinished else ""
    changes = [
        f"    {printable(difference.field)}: {printable(written(difference.found))} -> "
        f"{printable(written(difference.expected))}"
        for difference in one.differences
    ]
    counted = f"{one.messages} messages, {one.consumers} consumers"
    return [f"queue {printable(one.queue)} ({counted}{again})", *changes]


def _migrated(one: Migrated) -> str:
    known = f", {one.recognised} known from before" if one.recognised else ""
    return (
        f"migrated  {printable(one.queue)}: {one.moved} messages moved, {one.parked} parked "
        f"meanwhile{known}, {one.seconds:.1f} s"
    )

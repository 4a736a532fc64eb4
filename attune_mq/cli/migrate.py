"""``attune-mq migrate``: changes in place what RabbitMQ cannot change in place."""

from __future__ import annotations

import argparse

from attune_mq.cli.context import CONFLICT, FOUND, OK, Context
from attune_mq.cli.migrate_words import as_json, migrated, planned, skipped
from attune_mq.cli.objects import printable
from attune_mq.cli.progress import Progress as Bar
from attune_mq.errors import InvalidInput
from attune_mq.migration.context import DEFAULT_STALL_S, MigrationTimeouts
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import CountMismatch, Migration, Planned, Progress, Step
from attune_mq.topology.durations import format_duration, parse_duration_ms

SUMMARY = (
    "Change in place what RabbitMQ cannot change in place: type, TTL, dead letter exchange, "
    "durability and other arguments of queues, and exchanges, while messages flow. Stops where "
    "messages are missing. "
    "What was interrupted goes on when it is called again."
)
_PATIENCE = format_duration(int(DEFAULT_STALL_S * 1000))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        metavar="QUEUE",
        nargs="*",
        help="or an exchange, by its name on the broker or its key in the file; all that differ "
        "unless given",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; do nothing")
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="go on where a migration stopped since messages are missing; take them for lost",
    )
    parser.add_argument(
        "--settle",
        metavar="DURATION",
        help="without the HTTP API: no consumer holds a message for longer than this, such as 30s",
    )
    parser.add_argument(
        "--patience",
        metavar="DURATION",
        default=_PATIENCE,
        help=f"how long a queue may fail to get empty before it is left as it was "
        f"(default: {_PATIENCE})",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    settle_s = _seconds("--settle", arguments.settle) if arguments.settle else None
    telling = _Telling(context)
    try:
        result = migrate(
            context.topology(),
            context.broker(),
            names=arguments.names,
            management_url=context.management_url,
            dry_run=arguments.dry_run,
            timeouts=MigrationTimeouts(settle_s, _seconds("--patience", arguments.patience)),
            accept_loss=arguments.accept_loss,
            on_plan=telling.plan,
            on_progress=telling.progress,
        )
    except CountMismatch as mismatch:
        telling.stopped(mismatch)
        return CONFLICT
    except BaseException:
        telling.ended_early()
        raise
    telling.result(result, dry_run=arguments.dry_run)
    if result.has_differences:
        return CONFLICT
    return FOUND if arguments.dry_run and result.planned else OK


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration_ms(text) / 1000
    except ValueError as error:
        raise InvalidInput(f"{option}: expected {error}, got {text!r}") from None


class _Telling:
    """What it is about to do and does, on standard error; the result on standard output."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._messages: dict[str, int] = {}
        self._bar: Bar | None = None
        self._at: tuple[str, Step] | None = None

    def plan(self, everything: tuple[Planned, ...]) -> None:
        for one in everything:
            self._messages[one.name] = one.messages
            for line in planned(one):
                self._context.note(line)

    def progress(self, progress: Progress) -> None:
        at = (progress.name, progress.step)
        if at != self._at:
            self._at = at
            self._close()
            total = max(self._messages.get(progress.name, 0), progress.moved)
            self._bar = Bar(f"{printable(progress.name)}: {progress.step.value}", total)
        if self._bar is not None:
            self._bar.update(progress.moved)

    def ended_early(self) -> None:
        self._close()
        if self._at is not None:
            name, step = self._at
            self._context.note(
                f"attune-mq: ended while {step.value} ({printable(name)}); call it again to go on"
            )

    def stopped(self, mismatch: CountMismatch) -> None:
        self._close()
        self._context.note(f"attune-mq: {mismatch}")

    def result(self, result: Migration, *, dry_run: bool) -> None:
        self._close()
        if self._context.is_json:
            self._context.emit(as_json(result, dry_run=dry_run))
            return
        for done in result.migrated:
            self._context.line(migrated(done))
        for left in result.skipped:
            self._context.line(skipped(left))
        count = (
            f"{len(result.planned)} to migrate" if dry_run else f"{len(result.migrated)} migrated"
        )
        self._context.line(f"{count}, {len(result.skipped)} skipped")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

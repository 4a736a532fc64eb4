"""Change in place what RabbitMQ cannot change in place: type, TTL, dead letter exchange, durability
and other arguments of queues, and exchanges, while messages flow. Stops if messages are missing. An
interrupted migration resumes when the command is run again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from attune_mq.cli.context import Context
from attune_mq.cli.output import ProgressBar
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import EXIT_CONFLICT, EXIT_FINDINGS, EXIT_OK
from attune_mq.migration import report
from attune_mq.migration.context import DEFAULT_STALL_S, MigrationTimeouts
from attune_mq.migration.migrating import migrate
from attune_mq.topology.durations import format_duration, parse_duration_ms
from attune_mq.topology.equivalence import written

_PATIENCE = format_duration(int(DEFAULT_STALL_S * 1000))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("names", metavar="QUEUE", nargs="*", help="or an exchange; name or key (default: all)")
    add("--dry-run", action="store_true", help="show the plan, change nothing")
    add(
        "--accept-loss",
        action="store_true",
        help="accept that missing messages are lost",
    )
    add(
        "--settle",
        metavar="DURATION",
        help="without the HTTP API: longest time that a consumer holds a message unacked, such as "
        "30s",
    )
    add(
        "--patience",
        metavar="DURATION",
        default=_PATIENCE,
        help=f"time limit for a queue to become empty, before it is left as it was (default: "
        f"{_PATIENCE})",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    settle_s = _seconds("--settle", arguments.settle) if arguments.settle else None
    reporter = _Reporter(context)
    try:
        result = migrate(
            context.topology(),
            context.broker(),
            names=arguments.names,
            management_url=context.management_url,
            dry_run=arguments.dry_run,
            timeouts=MigrationTimeouts(settle_s, _seconds("--patience", arguments.patience)),
            accept_loss=arguments.accept_loss,
            on_plan=reporter.plan,
            on_progress=reporter.progress,
        )
    except report.CountMismatch as mismatch:
        reporter.bar.close()
        context.note(f"attune-mq: {mismatch}")
        return EXIT_CONFLICT
    except BaseException:
        reporter.ended_early()
        raise
    reporter.bar.close()
    _show(result, context, dry_run=arguments.dry_run)
    if result.has_differences:
        return EXIT_CONFLICT
    return EXIT_FINDINGS if arguments.dry_run and result.planned else EXIT_OK


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration_ms(text) / 1000
    except ValueError as error:
        raise InvalidInput(f"{option}: expected {error}, got {text!r}") from None


class _Reporter:
    """Reports plan and progress on standard error."""

    def __init__(self, context: Context) -> None:
        self.bar = ProgressBar()
        self._context = context
        self._messages: dict[str, int] = {}
        self._last: report.Progress | None = None
        self._total = 0

    def plan(self, everything: tuple[report.Planned, ...]) -> None:
        for one in everything:
            self._messages[one.name] = one.messages
            for line in _planned_lines(one):
                self._context.note(line)

    def progress(self, progress: report.Progress) -> None:
        if self._last is None or self._last[:2] != progress[:2]:
            self._total = max(self._messages.get(progress.name, 0), progress.moved)
        self._last = progress
        self.bar.update(f"{progress.name}: {progress.step.value}", progress.moved, self._total)

    def ended_early(self) -> None:
        self.bar.close()
        if self._last is not None:
            at = f"{self._last.step.value} ({self._last.name})"
            self._context.note(f"attune-mq: interrupted while {at}; run it again to resume")


def _planned_lines(one: report.Planned) -> Iterator[str]:
    """A line of its own for each property that differs."""
    remarks = [f"{one.messages} messages, {one.consumers} consumers"] if one.kind == "queue" else []
    if one.unfinished:
        remarks.append("resumes an interrupted migration")
    yield f"{one.kind} {one.name}" + (f" ({'; '.join(remarks)})" if remarks else "")
    for each in one.differences:
        yield f"    {each.field}: {written(each.found)} -> {written(each.expected)}"


def _show(result: report.Migration, context: Context, *, dry_run: bool) -> None:
    if context.is_json:
        context.emit(_as_json(result, dry_run=dry_run))
        return
    for done in result.migrated:
        context.line(_migrated_line(done))
    for left in result.skipped:
        context.line(f"skipped   {left.kind} {left.name}: {left.why}")
    count = f"{len(result.planned)} to migrate" if dry_run else f"{len(result.migrated)} migrated"
    context.line(f"{count}, {len(result.skipped)} skipped")


def _migrated_line(one: report.Migrated) -> str:
    if isinstance(one, report.MigratedExchange):
        return f"migrated  exchange {one.exchange}: {one.seconds:.1f} s"
    known = f", {one.recognised} known from before" if one.recognised else ""
    lost = f", {one.lost} LOST" if one.lost else ""
    unseen = f" (not seen: {', '.join(one.unseen)}; give --management-url)" if one.unseen else ""
    return (
        f"migrated  queue {one.queue}: {one.moved} messages moved, {one.parked} parked "
        f"meanwhile{known}{lost}, {one.seconds:.1f} s{unseen}"
    )


def _as_json(result: report.Migration, *, dry_run: bool) -> dict[str, Any]:
    """A dry run has the key ``planned`` beside the two."""
    lists: dict[str, Any] = {
        "migrated": [_migrated_as_json(one) for one in result.migrated],
        "skipped": [{one.kind: one.name, "reason": one.why} for one in result.skipped],
    }
    if dry_run:
        lists["planned"] = [_planned_as_json(one) for one in result.planned]
    return lists


def _migrated_as_json(one: report.Migrated) -> dict[str, Any]:
    seconds = round(one.seconds, 3)
    if isinstance(one, report.MigratedExchange):
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


def _planned_as_json(one: report.Planned) -> dict[str, Any]:
    counts = {"messages": one.messages, "consumers": one.consumers} if one.kind == "queue" else {}
    changes = [
        {"field": each.field, "expected": written(each.expected), "found": written(each.found)}
        for each in one.differences
    ]
    return {one.kind: one.name, **counts, "unfinished": one.unfinished, "changes": changes}

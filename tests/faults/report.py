"""The report of a soak, in Markdown, between the marks in docs/reliability.md."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.members import ROOT
from tests.faults.run import Verdict
from tests.faults.scene import Recovery

REPORT = ROOT / "docs" / "reliability.md"
COLUMNS = (
    "system, database",
    "minutes",
    "messages",
    "sent again",
    "faults",
    "lost",
    "doubled",
    "false receipts",
    "false refusals",
    "problems",
)
BEGIN = "<!-- what follows is written by make soak -->"
END = "<!-- end of what make soak writes -->"
HEADING = "### RabbitMQ "


@dataclass(frozen=True)
class Run:
    name: str
    verdict: Verdict


def write_report(
    file: Path, runs: Sequence[Run], broker_version: str, arguments: Sequence[str]
) -> None:
    """Replaces what stands between the marks of this RabbitMQ, or puts it before the end. The rest
    of the page stays, that of other versions too: two soaks may run side by side."""
    page = file.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    written, _, after = rest.partition(END)
    sections = dict(_sections(written))
    sections[_series(broker_version)] = "\n".join(report(runs, broker_version, arguments))
    generated = "\n\n".join(
        f"{HEADING}{series}\n\n{text}" for series, text in sorted(sections.items())
    )
    file.write_text(f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}", encoding="utf-8")


def shown(arguments: Sequence[str]) -> list[str]:
    """Those that another machine has as well: not where a RabbitMQ lies on this one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--root")
    return parser.parse_known_args(arguments)[1]


def _sections(written: str) -> Iterable[tuple[str, str]]:
    """By the series of RabbitMQ."""
    for section in f"\n{written}".split(f"\n{HEADING}")[1:]:
        series, _, text = section.partition("\n")
        yield series, text.strip()


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])


def report(runs: Sequence[Run], version: str, arguments: Sequence[str]) -> Iterable[str]:
    """Its lines."""
    day = datetime.now(UTC).date().isoformat()
    yield f'`make soak ARGS="{" ".join(arguments)}"`, {day}, RabbitMQ {version},'
    yield f"{os.cpu_count()} processors with a load of {os.getloadavg()[2]:.0f}:"
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    yield from (_row_of_run(one) for one in runs)
    yield ""
    yield "| fault | how often | nothing moved for, seconds | longest recovery, seconds |"
    yield "|---|---|---|---|"
    yield from _rows_of_faults(runs)
    notes = [f"- {one.name}: {note}" for one in runs for note in one.verdict.notes]
    if notes:
        yield ""
        yield from notes


def _row_of_run(run: Run) -> str:
    verdict = run.verdict
    doubled = [
        *(one.doubled for one in verdict.accounts),
        *(one.doubled for one in verdict.receipts),
    ]
    cells = (
        run.name,
        f"{verdict.lasted_s / 60:.1f}",
        verdict.messages,
        verdict.sent_again,
        verdict.faults.total(),
        sum(len(account.lost) for account in verdict.accounts),
        sum(map(len, doubled)),
        sum(len(account.false_receipts) for account in verdict.receipts),
        sum(len(account.false_refusals) for account in verdict.receipts),
        len(verdict.problems()),
    )
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _rows_of_faults(runs: Sequence[Run]) -> Iterable[str]:
    counts: Counter[str] = Counter()
    recoveries: dict[str, list[Recovery]] = {}
    for run in runs:
        counts += run.verdict.faults
        for kind, some in run.verdict.recoveries.items():
            recoveries.setdefault(kind, []).extend(some)
    for kind, count in sorted(counts.items()):
        yield f"| {kind} | {count} | {_longest(recoveries.get(kind, []))} |"


def _longest(recoveries: Sequence[Recovery]) -> str:
    if not recoveries:
        return "not waited for | not waited for"
    moves_s = max(one.moves_s for one in recoveries)
    return f"{moves_s:.1f} | {max(one.recovered_s for one in recoveries):.1f}"

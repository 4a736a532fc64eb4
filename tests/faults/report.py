"""The report of a soak, in Markdown, between the marks in docs/reliability.md."""

from __future__ import annotations

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
    "problems",
)
BEGIN = "<!-- what follows is written by make soak -->"
END = "<!-- end of what make soak writes -->"


@dataclass(frozen=True)
class Run:
    name: str
    verdict: Verdict


def write_report(
    file: Path, runs: Sequence[Run], broker_version: str, arguments: Sequence[str]
) -> None:
    """Replaces what stands between the marks; the rest of the page stays."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    generated = "\n".join(_lines(runs, broker_version, arguments))
    file.write_text(f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}", encoding="utf-8")


def _lines(runs: Sequence[Run], version: str, arguments: Sequence[str]) -> Iterable[str]:
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


def _row_of_run(run: Run) -> str:
    verdict = run.verdict
    lost = sum(len(account.lost) for account in verdict.accounts)
    doubled = sum(len(account.doubled) for account in verdict.accounts)
    cells = (
        run.name,
        f"{verdict.lasted_s / 60:.1f}",
        verdict.messages,
        verdict.sent_again,
        verdict.faults.total(),
        lost,
        doubled,
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

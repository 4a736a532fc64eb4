"""The figures of the demonstration: live on a terminal, as lines elsewhere, and as a summary."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from attune_executor.lifecycle import FINAL
from attune_mq.payloads import ExecutionStatus

_COLOURS = {"completed": "green", "failed": "red", "timeout": "yellow"}


@dataclass(frozen=True)
class Tally:
    """The figures at one moment; executions by status."""

    enforcements: int = 0
    executions: dict[ExecutionStatus, int] = field(default_factory=dict)
    notifications: int = 0
    dead_letters: int = 0
    by_consumer: dict[str, int] = field(default_factory=dict)

    @property
    def completed(self) -> int:
        return self.executions.get(ExecutionStatus.COMPLETED, 0)

    @property
    def finished(self) -> int:
        return sum(self.executions.get(status, 0) for status in FINAL)

    def as_json(self, seconds: float) -> dict[str, Any]:
        failed = self.finished - self.completed
        executions = {"completed": self.completed, "failed": failed}
        return {**asdict(self), "executions": executions, "seconds": round(seconds, 1)}

    def summary(self, seconds: float) -> str:
        other = {s.value: n for s, n in self.executions.items() if s != ExecutionStatus.COMPLETED}
        parts = ", ".join(f"{number} {status}" for status, number in sorted(other.items()))
        lines = [
            f"{self.enforcements} enforcements became {self.finished} finished executions "
            f"in {seconds:.1f} s:",
            f"  {self.completed} completed, {parts or '0 failed'}",
            f"  {self.notifications} notifications, one for each",
            f"  {self.dead_letters} dead letter: the poison message, kept for 24 h with its reason",
            "messages handled, by consumer tag:",
            *(f"  {tag:<24} {count}" for tag, count in sorted(self.by_consumer.items())),
        ]
        return "\n".join(lines)


class LiveView:
    """On standard error, so that standard output has the summary alone."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._console = Console(stderr=True, highlight=False)
        self._lines: list[str] = []
        self._tally = Tally()
        self.live = Live(console=self._console, transient=True, auto_refresh=False)

    def start(self) -> None:
        if self._console.is_terminal:
            self.live.start()

    def log(self, text: str) -> None:
        self._lines.append(text)
        if not self._console.is_terminal:
            self._console.print(text)
        self.show(self._tally)

    def show(self, tally: Tally) -> None:
        self._tally = tally
        if self._console.is_terminal:
            self.live.update(self._drawn(tally), refresh=True)

    def _drawn(self, tally: Tally) -> Group:
        bar = Table.grid()  # a bar alone ends without a new line
        bar.add_row(ProgressBar(total=self._expected, completed=tally.finished, width=40))
        table = Table.grid(padding=(0, 2))
        table.add_row("enforcements", str(tally.enforcements))
        for status in ExecutionStatus:
            count = tally.executions.get(status, 0)
            if count or status in _COLOURS:
                table.add_row(f"  {status}", Text(str(count), style=_COLOURS.get(status, "")))
        table.add_row("notifications", str(tally.notifications))
        table.add_row("dead letters", str(tally.dead_letters))
        for tag, count in sorted(tally.by_consumer.items()):
            table.add_row(Text(tag, style="cyan"), f"{count} messages")
        lines = [Text(f"· {line}", style="dim") for line in self._lines[-6:]]
        return Group(*lines, bar, table)

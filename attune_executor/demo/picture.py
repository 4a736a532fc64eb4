"""The demonstration as people see it: a live picture on a terminal, lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from attune_executor.demo.tally import Tally

_ORDER = ("requested", "scheduling", "scheduled", "running", "canceling", "completed", "failed",
          "timeout", "cancelled", "abandoned")  # fmt: skip
_COLOURS = {"completed": "green", "failed": "red", "timeout": "yellow"}


class Picture:
    """Shown on standard error, so that standard output has the summary alone."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._said: list[str] = []
        self._tally = Tally()

    def __enter__(self) -> Picture:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Something happened that is worth a line."""
        self._said.append(text)
        if self._console.is_terminal:
            self.show(self._tally)
        else:
            self._console.print(text)

    def show(self, tally: Tally) -> None:
        self._tally = tally
        if self._console.is_terminal:
            self._live.update(self._drawn(tally), refresh=True)

    def _drawn(self, tally: Tally) -> Group:
        bar = Table.grid()  # a bar alone ends without a new line
        bar.add_row(ProgressBar(total=self._expected, completed=tally.finished, width=40))
        table = Table.grid(padding=(0, 2))
        table.add_row("enforcements", str(tally.enforcements))
        for status in _ORDER:
            count = tally.executions.get(status, 0)
            if count or status in _COLOURS:
                table.add_row(f"  {status}", Text(str(count), style=_COLOURS.get(status, "")))
        table.add_row("notifications", str(tally.notifications))
        table.add_row("dead letters", str(tally.dead_letters))
        for tag, count in sorted(tally.by_consumer.items()):
            table.add_row(Text(tag, style="cyan"), f"{count} messages")
        story = [Text(f"· {line}", style="dim") for line in self._said[-6:]]
        return Group(*story, bar, table)


def summary(tally: Tally, seconds: float) -> str:
    """What happened, in lines that add up."""
    other = {s: n for s, n in tally.executions.items() if s != "completed"}
    parts = ", ".join(f"{count} {status}" for status, count in sorted(other.items())) or "0 failed"
    lines = [
        f"{tally.enforcements} enforcements became {tally.finished} finished executions "
        f"in {seconds:.1f} s:",
        f"  {tally.completed} completed, {parts}",
        f"  {tally.notifications} notifications, one for each",
        f"  {tally.dead_letters} dead letter: the poisonous message, kept for 24 h with its reason",
        "messages handled, by consumer tag:",
        *(f"  {tag:<24} {count}" for tag, count in sorted(tally.by_consumer.items())),
    ]
    return "\n".join(lines)

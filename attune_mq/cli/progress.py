"""A progress bar on standard error, where that is a terminal, and nothing anywhere else."""

from __future__ import annotations

import os
import sys
import time

REDRAW_S = 0.1
MAX_BAR_WIDTH = 40


class Progress:
    """One line that is drawn over itself, and gone without a trace when it is closed."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._is_shown = sys.stderr.isatty()
        self._drawn_at = float("-inf")

    def close(self) -> None:
        self._write("")

    def update(self, done: int) -> None:
        """Cheap enough to be called for each message."""
        now = time.monotonic()
        if self._is_shown and (now - self._drawn_at >= REDRAW_S or done == self._total):
            self._drawn_at = now
            self._write(self._line(done, os.get_terminal_size(sys.stderr.fileno()).columns))

    def _line(self, done: int, columns: int) -> str:
        counted = f"{done}/{self._total}"
        head = f"{self._what} "
        width = min(MAX_BAR_WIDTH, columns - len(head) - len(counted) - 4)
        if width < 5:
            return counted[: max(0, columns - 1)]
        filled = width * done // max(1, self._total)
        return f"{head}[{'#' * filled}{'.' * (width - filled)}] {counted}"

    def _write(self, line: str) -> None:
        if self._is_shown:
            sys.stderr.write(f"\r{line}\033[K")
            sys.stderr.flush()

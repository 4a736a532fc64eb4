"""A command in a terminal of a given size, as a process of its own; what it draws, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.children import handed_on

WAIT_S = 60.0
"""A deadline against hanging, not a claim about speed."""
_NEW_ROW = re.compile(r"[\r\n]+|\033\[H|\033\[\?1049[hl]")
"""A line ends, the cursor goes to the top, the terminal shows its other screen."""
_ESCAPES = re.compile(r"\033\[[0-9;?]*[A-Za-z]")


class Terminal:
    """``attune-mq`` with these arguments; a context manager at whose end it has ended.

    ``piped``: standard output is a pipe, whose text is ``out`` then, and only standard error is
    the terminal.
    """

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        rows: int = 24,
        piped: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.drawn = ""
        self.out = ""
        self._changed = threading.Condition()
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (rows, columns))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "attune_mq", *arguments],
            stdin=theirs,
            stdout=subprocess.PIPE if piped else theirs,
            stderr=theirs,
            env={**handed_on(), "TERM": "xterm", "NO_COLOR": "1", **(environment or {})},
            start_new_session=True,
        )
        os.close(theirs)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self.end()
        os.close(self._ours)

    def wait_for(self, text: str) -> None:
        """Returns when it has drawn that, anywhere and any time."""
        with self._changed:
            seen = self._changed.wait_for(lambda: text in self.drawn, WAIT_S)
            assert seen, f"still waiting: {text!r} in {self.drawn!r}"

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Waits for its end; its exit code. All that it drew has been read then."""
        if self._process.stdout is not None and not self._process.stdout.closed:
            with self._process.stdout as stdout:
                self.out = stdout.read().decode()
        code = self._process.wait(WAIT_S)
        self._thread.join(WAIT_S)
        return code

    def _read(self) -> None:
        with suppress(OSError):  # what a terminal says when its last program has gone
            while data := os.read(self._ours, 65_536):
                with self._changed:
                    self.drawn += data.decode()
                    self._changed.notify_all()


def rows_of(drawn: str) -> Sequence[str]:
    """The text of every row that was drawn, without what moves the cursor or colours."""
    return [_ESCAPES.sub("", row) for row in _NEW_ROW.split(drawn)]

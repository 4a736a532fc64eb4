"""What a reader of the tutorial does at the keyboard: writes files, runs commands, reads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.children import handed_on
from tests.docs.markdown import Block

DEADLINE_S = 60.0
"""Against hanging, not a claim about speed."""


class Mismatch(AssertionError):
    def __init__(self, block: Block, expected: str, found: str) -> None:
        super().__init__(
            f"the block in line {block.line} shows:\n{expected}\nbut there was:\n{found}"
        )


def matches(expected: str, found: str) -> bool:
    """Whether *found* is what is shown. ``…`` stands for anything in its line, and alone in a line
    for any number of lines."""
    return re.fullmatch(_pattern(expected), found) is not None


def _pattern(expected: str) -> str:
    lines = []
    for line in expected.splitlines(keepends=True):
        if line.strip() == "…":
            lines.append("(?s:.*?)")
        else:
            lines.append("[^\n]*".join(re.escape(part) for part in line.split("…")))
    return "".join(lines)


class Reader:
    """Follows a document in a folder of its own, block by block.

    * ``title="name.py"``: a file of that name.
    * ``sh``: a command. The ``text`` block after it shows what it prints.
    * ``sh title="first terminal"``: a command that goes on running there; a new one for the same
      terminal ends the one before with Ctrl-C. ``text`` of that title shows what it prints next.
    * ``console``: shown only.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        programs = str(Path(sys.executable).parent)
        self.environment = {
            **handed_on(),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        self._terminals: dict[str, _Terminal] = {}
        self._printed = ""

    def follow(self, block: Block) -> None:
        match block.language:
            case "console":
                pass
            case "sh" if block.title:
                self._run_on(block)
            case "sh":
                self._printed = self._run(block)
            case "text" if block.title:
                self._terminals[block.title].expect(block)
            case "text":
                if not matches(block.text, self._printed):
                    raise Mismatch(block, block.text, self._printed)
            case "python" | "yaml" if block.title:
                path = self.folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            case other:
                raise AssertionError(f"line {block.line}: nobody knows what to do with {other!r}")

    def close(self) -> None:
        for terminal in self._terminals.values():
            terminal.interrupt()

    def _run(self, block: Block) -> str:
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", block.text],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
        )
        if done.returncode:
            raise AssertionError(f"line {block.line}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    def _run_on(self, block: Block) -> None:
        before = self._terminals.pop(block.title, None)
        if before is not None:
            before.interrupt()
        self._terminals[block.title] = _Terminal(block.text, self.folder, self.environment)


class _Terminal:
    """A command in the foreground of a terminal of its own."""

    def __init__(self, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._output = ""
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def expect(self, block: Block) -> None:
        """Waits until what is shown has been printed, since what was shown before."""
        pattern = re.compile(_pattern(block.text))
        with self._changed:
            shown = self._changed.wait_for(lambda: pattern.match(self._output), DEADLINE_S)
            if not shown:
                raise Mismatch(block, block.text, self._output)
            self._output = self._output[shown.end() :]

    def interrupt(self) -> None:
        """Ctrl-C, upon which a service drains and ends without an error."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        code = self._process.wait(DEADLINE_S)
        self._thread.join(DEADLINE_S)
        assert code == 0, f"exit code {code} after Ctrl-C:\n{self._output}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._output += line
                self._changed.notify_all()

"""What the programs of the suite write down while faults strike them: one line an entry, appended
by one ``write`` each, so that threads, forked children and a SIGKILL leave whole lines."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.receipts import Said


@dataclass
class Entries:
    """``said``: of each message by its number. ``faults``: by kind, those that a program made
    itself. ``problems``: what must not be, in words."""

    said: dict[int, Said] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Journal:
    """Takes no lock: a forked child writes to it, too."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def said(self, number: int, said: Said) -> None:
        self._append("said", number, said)

    def fault(self, kind: str) -> None:
        self._append("fault", kind)

    def problem(self, text: str) -> None:
        self._append("problem", text)

    def _append(self, *entry: object) -> None:
        os.write(self._descriptor, f"{json.dumps(entry)}\n".encode())


def read_journal(file: Path) -> Entries:
    entries = Entries()
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        match json.loads(line):
            case "said", int(number), str(said):
                entries.said[number] = Said(said)
            case "fault", str(kind):
                entries.faults[kind] += 1
            case "problem", str(text):
                entries.problems.append(text)
            case other:
                raise AssertionError(f"{file}: {other}")
    return entries

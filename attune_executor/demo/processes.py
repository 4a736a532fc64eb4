"""The processes of the demonstration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

STOP_WITHIN_S = 10.0


def examples_folder() -> Path:
    """In a checkout beside the package, in an installation inside of it."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "examples"
    return packaged if packaged.is_dir() else package.parent / "examples"


class Processes:
    """Children with a common environment, each with its log files."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._files: list[IO[bytes]] = []

    def start(self, name: str, *arguments: str) -> None:
        """Standard output goes to ``name.out``, errors to ``name.log``."""
        self._children[name] = subprocess.Popen(
            [sys.executable, *arguments],
            env=self._environment,
            stdout=self._open(f"{name}.out"),
            stderr=self._open(f"{name}.log"),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the demonstration alone
        )

    def example(self, name: str, script: str, *arguments: str) -> None:
        self.start(name, str(examples_folder() / script), *arguments)

    def kill(self, name: str) -> None:
        """By SIGKILL."""
        child = self._children.pop(name)
        child.kill()
        child.wait()

    def died(self) -> str | None:
        """The name of a child that ended with an error."""
        for name, child in self._children.items():
            if child.poll():
                return name
        return None

    def lines(self, name: str) -> int:
        """How many lines a child has printed."""
        return (self._folder / f"{name}.out").read_bytes().count(b"\n")

    def log(self, name: str, last: int = 15) -> str:
        text = (self._folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-last:])

    def stop(self) -> None:
        """By SIGTERM, and by SIGKILL after :data:`STOP_WITHIN_S`."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        for child in self._children.values():
            try:
                child.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for file in self._files:
            file.close()

    def _open(self, name: str) -> IO[bytes]:
        file = (self._folder / name).open("wb")
        self._files.append(file)
        return file

"""Running a command of ``attune-mq`` in the process of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from attune_mq.cli.main import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed, if that is one JSON document and nothing else."""
        return json.loads(self.out)


Run = Callable[..., Ran]


def runner(capsys: pytest.CaptureFixture[str], *general: str) -> Run:
    """``run("plan", "--service", "x")``, with the general options that are given here."""

    def run(*arguments: str) -> Ran:
        code = main([*general, *arguments])
        return Ran(code, *capsys.readouterr())

    return run

"""Secrets that the tests use everywhere, and the watch that none of them is logged.

Loaded by ``conftest.py``, so it holds for the whole suite: every record that anything logs in the
tests' own processes, at whatever level, and what the programs that they start wrote to ``*.log``.
A test that shows how a secret is masked plants another.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PAYLOAD = "planted-in-a-payload"
"""In the payloads of the small topologies' requests and of the executor's enforcements."""

PLANTED = (
    PAYLOAD,
    "hunter2",
    "s3cret",
    "guest:guest@",  # a URL of the tests' own brokers, with its password
)


def planted_in(text: str) -> list[str]:
    return [secret for secret in PLANTED if secret in text]


class Watch:
    """Looks at each record as it is made; what becomes of it is none of its business."""

    def __init__(self) -> None:
        self.leaks: list[str] = []
        self._make = logging.getLogRecordFactory()

    def start(self) -> None:
        logging.setLogRecordFactory(self._made)

    def stop(self) -> None:
        logging.setLogRecordFactory(self._make)

    def _made(self, *arguments: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*arguments, **more)
        found = planted_in(_said(record))
        if found:
            self.leaks.append(f"{record.name} at {record.pathname}:{record.lineno} says {found}")
        return record


def _said(record: logging.LogRecord) -> str:
    """Its text and those of its errors; a traceback shows source, where a test plants what it
    likes."""
    said = [str(record.msg)]
    with suppress(Exception):
        said.append(record.getMessage())
    error = record.exc_info[1] if record.exc_info else None
    while error is not None:
        said.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(said)


@pytest.fixture(scope="session")
def _watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    watch = Watch()
    watch.start()
    yield watch
    watch.stop()
    assert leaking_files(tmp_path_factory.getbasetemp()) == []


@pytest.fixture(autouse=True)
def _no_secret_is_logged(_watch: Watch) -> Iterator[None]:
    yield
    leaks, _watch.leaks = _watch.leaks, []
    assert leaks == []


def leaking_files(folder: Path) -> list[str]:
    """Where the logs of programs hold a planted secret."""
    leaking = []
    for path in sorted(folder.rglob("*.log")):
        found = planted_in(path.read_text(errors="replace")) if path.is_file() else []
        if found:
            leaking.append(f"{path}: {found}")
    return leaking

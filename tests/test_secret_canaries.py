"""The watch for secrets in logs sees them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.secret_canaries import PAYLOAD, PLANTED, Watch, leaking_files

logger = logging.getLogger(__name__)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """In the place of the one that would fail this test."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    watch = Watch()
    watch.start()
    yield watch
    watch.stop()
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("secret", PLANTED)
def test_a_secret_in_a_line_is_seen(watch: Watch, secret: str) -> None:
    logger.warning("a line with %s in it", secret)

    [leak] = watch.leaks
    assert secret in leak


def test_a_secret_in_an_error_that_is_logged_is_seen(watch: Watch) -> None:
    try:
        try:
            raise KeyError(PAYLOAD)
        except KeyError as error:
            raise ValueError("no") from error
    except ValueError:
        logger.exception("it failed")

    assert len(watch.leaks) == 1


def test_a_secret_in_the_log_of_a_program_is_seen(tmp_path: Path) -> None:
    (tmp_path / "executor.log").write_text(f"12:00:00 INFO {PAYLOAD}\n")
    (tmp_path / "other.log").write_text("12:00:00 INFO nothing\n")

    [leak] = leaking_files(tmp_path)
    assert "executor.log" in leak
    (tmp_path / "executor.log").unlink()  # or the whole run would fail

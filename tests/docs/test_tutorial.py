"""The tutorial, followed from its first line to its last by somebody who types what it shows."""

from __future__ import annotations

from pathlib import Path

from attune_mq.broker import EmbeddedBroker
from tests.docs.markdown import page
from tests.docs.terminals import Reader

A_NODE_THAT_RUNS_ALREADY = """
import pytest


@pytest.fixture
def attune_broker_url() -> str:
    return {url!r}
"""
"""In place of a node for the tests of the tutorial, which would take seconds to start."""


def test_whoever_follows_the_tutorial_sees_what_it_shows(
    broker: EmbeddedBroker, broker_url: str, tmp_path: Path
) -> None:
    with broker.fresh_vhost() as url_for_tests:
        conftest = A_NODE_THAT_RUNS_ALREADY.format(url=url_for_tests)
        (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
        reader = Reader(tmp_path, {"ATTUNE_MQ_URL": broker_url})
        try:
            for block in page("tutorial.md").blocks:
                reader.follow(block)
        finally:
            reader.close()

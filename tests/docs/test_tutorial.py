"""The tutorial, followed from its first line to its last by somebody who types what it shows."""

from __future__ import annotations

from pathlib import Path

from tests.docs.markdown import page
from tests.docs.terminals import Reader


def test_whoever_follows_the_tutorial_sees_what_it_shows(broker_url: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path, {"ATTUNE_MQ_URL": broker_url})
    try:
        for block in page("tutorial.md").blocks:
            reader.follow(block)
    finally:
        reader.close()

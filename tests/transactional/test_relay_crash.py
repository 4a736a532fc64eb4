from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData

from attune_mq import Payload
from attune_mq.transactional import (
    Inbox,
    Outbox,
    OutboxRelay,
    Relayed,
    Tables,
    define_tables,
    utc_now,
)
from tests.transactional.crashing_relay import LEASE, POINTS
from tests.transactional.recording import RecordingPublisher
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Said(Payload):
    message_type = "Said"
    word: str


@contextmanager
def relay_process(url: str, point: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    module = "tests.transactional.crashing_relay"
    process = subprocess.Popen([sys.executable, "-m", module, url, point, str(folder)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def killed_at(point: str, url: str, folder: Path) -> list[str]:
    """Kill (SIGKILL) a relay that stands at ``point``; what it had published by then."""
    with relay_process(url, point, folder) as process:

        def stands_there() -> bool:
            assert process.poll() is None, "the relay ended by itself"
            return (folder / "reached").exists()

        wait_until(stands_there, f"the relay stands {point}")
    published = folder / "published"
    return published.read_text().split() if published.exists() else []


@pytest.mark.parametrize("point", POINTS)
def test_a_relay_that_is_killed_loses_nothing_and_repeats_under_the_same_ids(
    engine: Engine, database_url: str, tmp_path: Path, point: str
) -> None:
    tables = _create_tables(engine)
    outbox = Outbox(tables.outbox)
    with engine.begin() as tx:
        written = [outbox.add(tx, Said(word=str(n))).message_id for n in range(5)]

    before = killed_at(point, database_url, tmp_path)
    after = _publish_the_rest(engine, tables)

    assert before == ([] if point == "before publishing" else written)
    assert after == written
    assert _effects(engine, tables, before + after) == written


def test_what_a_killed_relay_held_waits_for_no_lease(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    tables = _create_tables(engine)
    outbox = Outbox(tables.outbox)
    with engine.begin() as tx:
        written = outbox.add(tx, Said(word="held")).message_id
    before = utc_now()
    killed_at("before publishing", database_url, tmp_path)

    assert _publish_the_rest(engine, tables) == [written]
    assert utc_now() - before < LEASE


def test_nobody_takes_what_a_relay_holds_that_lives(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    tables = _create_tables(engine)
    outbox = Outbox(tables.outbox)
    with engine.begin() as tx:
        outbox.add(tx, Said(word="held"))
    with relay_process(database_url, "before publishing", tmp_path):
        wait_until((tmp_path / "reached").exists, "the relay stands before publishing")
        assert OutboxRelay(engine, outbox, RecordingPublisher()).run_once() == Relayed()


def _create_tables(engine: Engine) -> Tables:
    metadata = MetaData()
    tables = define_tables(metadata)
    metadata.create_all(engine)
    return tables


def _publish_the_rest(engine: Engine, tables: Tables) -> list[str]:
    """What another relay publishes of what the killed one left."""
    outbox = Outbox(tables.outbox)
    publisher = RecordingPublisher()
    relay = OutboxRelay(engine, outbox, publisher)

    def is_empty() -> bool:
        relay.run_once()
        with engine.begin() as tx:
            return outbox.backlog(tx).messages == 0

    # PostgreSQL may need a moment to notice that the killed process is gone.
    wait_until(is_empty, "the outbox is empty")
    return publisher.message_ids


def _effects(engine: Engine, tables: Tables, deliveries: list[str]) -> list[str]:
    """What a consumer with an inbox makes of these deliveries."""
    inbox = Inbox(tables.inbox)
    with engine.begin() as tx:
        return [m for m in deliveries if inbox.accept(tx, m, consumer="tests")]

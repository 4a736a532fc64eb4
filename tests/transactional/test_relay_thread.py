from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy.exc
from sqlalchemy import Engine, MetaData

from attune_mq import Payload
from attune_mq.errors import BrokerUnavailable, NotConfirmed
from attune_mq.transactional import (
    OutboundMessage,
    Outbox,
    OutboxRelay,
    Tables,
    create_database_engine,
    define_tables,
)
from tests.databases import PostgreSQLServer
from tests.transactional.recording import Outcome, RecordingPublisher, refuse
from tests.waiting import wait_until

LONG_S = 3600.0


class Said(Payload):
    message_type = "Said"
    word: str


@pytest.fixture
def outbox(tables: Tables) -> Outbox:
    """An outbox that goes by the real clock, as the thread does."""
    return Outbox(tables.outbox)


def say(engine: Engine, outbox: Outbox, count: int = 1) -> list[str]:
    with engine.begin() as tx:
        return [outbox.add(tx, Said(word=str(n))).message_id for n in range(count)]


def waiting(engine: Engine, outbox: Outbox) -> int:
    with engine.begin() as tx:
        return outbox.backlog(tx).messages


@contextmanager
def running(*relays: OutboxRelay) -> Iterator[None]:
    for relay in relays:
        relay.start()
    try:
        yield
    finally:
        stopped = [relay.stop(60) for relay in relays]
        assert all(stopped), "a relay did not end"


def changes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the relay logged about its own state, without the details."""
    messages = [record.getMessage() for record in caplog.records]
    return [message.split(":")[0] for message in messages if message.startswith("Outbox relay")]


def test_a_relay_that_is_woken_publishes_without_waiting_for_its_next_poll(
    engine: Engine, outbox: Outbox
) -> None:
    publisher = RecordingPublisher()
    relay = OutboxRelay(engine, outbox, publisher, poll_interval_s=LONG_S)
    with running(relay):
        for round_number in range(1, 6):
            say(engine, outbox)
            relay.wake()
            wait_until(partial(_has_published, publisher, round_number), "it is published")


def test_a_relay_finds_by_polling_what_another_process_committed(
    engine: Engine, outbox: Outbox
) -> None:
    publisher = RecordingPublisher()
    with running(OutboxRelay(engine, outbox, publisher, poll_interval_s=0.01)):
        written = say(engine, outbox)
        wait_until(lambda: publisher.message_ids == written, "the message is published")
    assert waiting(engine, outbox) == 0


def test_a_backlog_of_many_batches_is_published_in_one_go(engine: Engine, outbox: Outbox) -> None:
    publisher = RecordingPublisher()
    written = say(engine, outbox, 25)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=10, poll_interval_s=LONG_S)
    with running(relay):
        wait_until(lambda: publisher.message_ids == written, "all messages are published")


def test_several_relays_on_one_database_publish_each_message_once(
    engine: Engine, outbox: Outbox
) -> None:
    publisher = RecordingPublisher()
    relays = [
        OutboxRelay(engine, outbox, publisher, batch_size=7, poll_interval_s=0.01) for _ in range(2)
    ]
    written: list[str] = []
    with running(*relays):
        for _ in range(30):
            written += say(engine, outbox, 10)
            relays[0].wake()
        wait_until(lambda: waiting(engine, outbox) == 0, "the outbox is empty")
    assert Counter(publisher.message_ids) == Counter(written)


def test_stopping_publishes_what_was_committed_before(engine: Engine, outbox: Outbox) -> None:
    publisher = RecordingPublisher()
    relay = OutboxRelay(engine, outbox, publisher, batch_size=3, poll_interval_s=LONG_S)
    relay.start()
    relay.wake()
    written = say(engine, outbox, 10)
    assert relay.stop(60)
    assert publisher.message_ids == written
    assert not relay.running


def test_stopping_leaves_to_the_next_start_what_cannot_be_published(
    engine: Engine, outbox: Outbox
) -> None:
    publisher = RecordingPublisher(_broker_is_away)
    relay = OutboxRelay(engine, outbox, publisher)
    written = say(engine, outbox, 3)
    with running(relay):
        pass
    assert waiting(engine, outbox) == 3
    revived = RecordingPublisher()
    assert OutboxRelay(engine, outbox, revived).run_once().confirmed == 3
    assert revived.message_ids == written


def test_stopping_says_when_the_publisher_holds_the_relay_beyond_the_deadline(
    engine: Engine, outbox: Outbox
) -> None:
    entered, may_go_on = Event(), Event()

    def hold(message: OutboundMessage) -> Outcome:
        entered.set()
        may_go_on.wait(60)
        return None

    relay = OutboxRelay(engine, outbox, RecordingPublisher(hold))
    say(engine, outbox)
    relay.start()
    assert entered.wait(60)
    assert not relay.stop(0.01)
    assert relay.running
    may_go_on.set()
    assert relay.stop(60)
    assert waiting(engine, outbox) == 0


def test_stopping_a_relay_that_never_started_is_fine(engine: Engine, outbox: Outbox) -> None:
    assert OutboxRelay(engine, outbox, RecordingPublisher()).stop()


def test_a_broker_that_is_away_is_said_once_and_waited_for(
    engine: Engine, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tries: list[str] = []

    def away_for_four_tries(message: OutboundMessage) -> Outcome:
        tries.append(message.message_id)
        return _broker_is_away(message) if len(tries) <= 4 else None

    relay = OutboxRelay(engine, outbox, RecordingPublisher(away_for_four_tries))
    [written] = say(engine, outbox)
    with running(relay):
        wait_until(lambda: waiting(engine, outbox) == 0, "the outbox is empty")
        wait_until(lambda: relay.trouble is None, "the trouble is over")
    assert tries == [written] * 5
    assert changes(caplog) == [
        "Outbox relay waits, the broker is not available",
        "Outbox relay recovered from",
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_table_that_is_missing_is_logged_once_with_its_trace_and_ends_no_thread(
    engine: Engine, outbox: Outbox, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    refused = _count_errors(engine)
    tables.outbox.drop(engine)
    publisher = RecordingPublisher()
    with running(OutboxRelay(engine, outbox, publisher)):
        wait_until(lambda: len(refused) >= 3, "the relay was refused three times")
        tables.outbox.create(engine)
        written = say(engine, outbox)
        wait_until(lambda: publisher.message_ids == written, "the message is published")
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "no such table" in record.getMessage()
    assert record.exc_info is not None


def test_a_message_that_never_succeeds_does_not_keep_the_others(
    engine: Engine, outbox: Outbox
) -> None:
    poison = set(say(engine, outbox, 3))
    publisher = RecordingPublisher(lambda m: refuse(m) if m.message_id in poison else None)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=2, poll_interval_s=0.01)
    with running(relay):
        written = set(say(engine, outbox, 5))
        wait_until(lambda: written <= set(publisher.message_ids), "the others are published")
        assert relay.trouble is None
    assert waiting(engine, outbox) == len(poison)


def test_a_message_is_published_at_once_however_many_there_are_that_nobody_takes(
    engine: Engine, outbox: Outbox
) -> None:
    poison = set(say(engine, outbox, 60))
    publisher = RecordingPublisher(lambda m: refuse(m) if m.message_id in poison else None)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=2, poll_interval_s=LONG_S)
    with running(relay):
        [written] = say(engine, outbox)
        relay.wake()
        wait_until(lambda: written in publisher.message_ids, "it is published")


def test_who_wakes_the_relay_has_a_destination_that_has_failed_tried_at_once(
    engine: Engine, outbox: Outbox
) -> None:
    poison = set(say(engine, outbox))
    publisher = RecordingPublisher(lambda m: refuse(m) if m.message_id in poison else None)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=2, poll_interval_s=LONG_S)
    with running(relay):
        wait_until(lambda: bool(relay._failing.known()), "its destination is known to fail")
        wait_until(lambda: not any(one.turn_s for one in relay._threads), "both threads wait")
        [written] = say(engine, outbox)
        relay.wake()
        wait_until(lambda: written in publisher.message_ids, "it is published")


def test_a_destination_that_confirms_nothing_for_long_delays_no_other(
    engine: Engine, outbox: Outbox
) -> None:
    is_held, may_go_on = Event(), Event()

    def hold_the_second_time(message: OutboundMessage) -> Outcome:
        if message.routing_key != "slow":
            return None
        if len(publisher.batches) > 1:
            is_held.set()
            may_go_on.wait(60)
        return NotConfirmed("the deadline passed", sent=True)

    publisher = RecordingPublisher(hold_the_second_time)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=1, poll_interval_s=LONG_S)
    slow = SimpleNamespace(exchange="x", routing_key="slow")
    with engine.begin() as tx:
        for _ in range(5):
            outbox.add(tx, Said(word="slow"), route=slow)
    with running(relay):
        relay.wake()
        assert is_held.wait(60)
        written = say(engine, outbox, 3)
        relay.wake()
        wait_until(lambda: set(written) <= set(publisher.message_ids), "the others are published")
        assert not may_go_on.is_set()
        may_go_on.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_relay_of_which_a_thread_has_ended_unasked_does_not_run(
    engine: Engine, outbox: Outbox
) -> None:
    def end(message: OutboundMessage) -> Outcome:
        raise SystemExit

    relay = OutboxRelay(engine, outbox, RecordingPublisher(end))
    say(engine, outbox)
    with running(relay):
        wait_until(lambda: not relay.running, "it does not run")
    assert waiting(engine, outbox) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_locked_database_is_said_once_and_waited_for_and_nothing_is_lost(
    engine: Engine, outbox: Outbox, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    impatient = create_database_engine(database_url, busy_timeout_ms=1)
    polls = _count_errors(impatient)
    publisher = RecordingPublisher()
    relay = OutboxRelay(impatient, outbox, publisher, poll_interval_s=0.01)

    with running(relay):
        with engine.begin() as tx:
            written = outbox.add(tx, Said(word="locked in")).message_id
            wait_until(lambda: len(polls) >= 3, "the relay met the lock three times")
            assert relay.trouble == "the database is locked or unreachable"
        wait_until(lambda: publisher.message_ids == [written], "the message is published")
        wait_until(lambda: relay.trouble is None, "the trouble is over")
    assert changes(caplog) == [
        "Outbox relay waits, the database is locked or unreachable",
        "Outbox relay recovered from",
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_was_confirmed_while_the_database_is_locked_is_deleted_later_not_published_again(
    engine: Engine, outbox: Outbox, database_url: str
) -> None:
    impatient = create_database_engine(database_url, busy_timeout_ms=1)
    lock = engine.connect()

    def lock_the_database(message: OutboundMessage) -> Outcome:
        lock.begin()
        return None

    publisher = RecordingPublisher(lock_the_database)
    relay = OutboxRelay(impatient, outbox, publisher)
    [written] = say(engine, outbox)
    for _ in range(2):
        with pytest.raises(sqlalchemy.exc.OperationalError, match="locked"):
            relay.run_once()
    lock.close()
    relay.run_once()
    assert publisher.message_ids == [written]
    assert waiting(engine, outbox) == 0


def test_a_server_that_restarts_is_said_once_and_waited_for_and_nothing_is_lost(
    postgresql_server: PostgreSQLServer, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine, outbox = _outbox_on(postgresql_url)
    publisher = RecordingPublisher()
    relay = OutboxRelay(engine, outbox, publisher, poll_interval_s=0.01)
    with running(relay):
        before = say(engine, outbox, 3)
        wait_until(lambda: publisher.message_ids == before, "the messages are published")
        postgresql_server.stop()
        try:
            wait_until(lambda: relay.trouble is not None, "the relay noticed")
        finally:
            postgresql_server.start()
        after = say(engine, outbox, 3)
        wait_until(lambda: publisher.message_ids == before + after, "the rest is published")
    assert changes(caplog) == [
        "Outbox relay waits, the database is locked or unreachable",
        "Outbox relay recovered from",
    ]


def _has_published(publisher: RecordingPublisher, count: int) -> bool:
    return len(publisher.message_ids) == count


def _broker_is_away(message: OutboundMessage) -> Outcome:
    raise BrokerUnavailable("connection refused")


def _count_errors(engine: Engine) -> list[object]:
    failures: list[object] = []

    @sqlalchemy.event.listens_for(engine, "handle_error")
    def remember(context: Any) -> None:
        failures.append(context.original_exception)

    return failures


def _outbox_on(url: str) -> tuple[Engine, Outbox]:
    engine = create_database_engine(url)
    metadata = MetaData()
    tables = define_tables(metadata)
    metadata.create_all(engine)
    return engine, Outbox(tables.outbox)

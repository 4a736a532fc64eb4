from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, select, update

from attune_mq.errors import (
    BrokerUnavailable,
    NotConfirmed,
    PublishError,
    PublishRefused,
    Unroutable,
)
from attune_mq.message.payload import Payload
from attune_mq.transactional import (
    OutboundMessage,
    Outbox,
    OutboxRelay,
    Relayed,
    Tables,
    to_us,
)
from tests.transactional.conftest import Clock
from tests.transactional.recording import Outcome, RecordingPublisher, refuse
from tests.waiting import wait_until


class Said(Payload):
    message_type = "Said"
    word: str


def say(engine: Engine, outbox: Outbox, count: int = 1) -> list[str]:
    with engine.begin() as tx:
        return [outbox.add(tx, Said(word=str(n))).message_id for n in range(count)]


def waiting(engine: Engine, outbox: Outbox) -> int:
    with engine.begin() as tx:
        return outbox.backlog(tx).messages


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def relay(
    engine: Engine, outbox: Outbox, publisher: RecordingPublisher, clock: Clock
) -> OutboxRelay:
    return OutboxRelay(engine, outbox, publisher)


def test_a_turn_publishes_what_is_due_in_order_and_deletes_it(
    engine: Engine, outbox: Outbox, relay: OutboxRelay, publisher: RecordingPublisher
) -> None:
    written = say(engine, outbox, 3)
    assert relay.run_once() == Relayed(confirmed=3)
    assert publisher.message_ids == written
    with engine.begin() as tx:
        assert outbox.backlog(tx).messages == 0
    assert relay.run_once() == Relayed()


def test_a_turn_publishes_a_batch_at_a_time(
    engine: Engine, outbox: Outbox, publisher: RecordingPublisher
) -> None:
    say(engine, outbox, 5)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=2)
    assert [relay.run_once().confirmed for _ in range(4)] == [2, 2, 1, 0]
    assert [len(batch) for batch in publisher.batches] == [2, 2, 1]


def test_a_turn_keeps_what_is_not_confirmed_and_deletes_the_rest(
    engine: Engine, outbox: Outbox, tables: Tables, clock: Clock
) -> None:
    good, bad, _ = written = say(engine, outbox, 3)
    publisher = RecordingPublisher(lambda m: refuse(m) if m.message_id == bad else None)
    relay = OutboxRelay(engine, outbox, publisher)

    assert relay.run_once() == Relayed(confirmed=2, failed=1)
    with engine.connect() as connection:
        [row] = connection.execute(select(tables.outbox)).all()
    assert (row.message_id, row.attempts, row.claimed_by) == (bad, 1, None)
    assert row.last_error == "PublishError: no queue takes it"
    assert good in publisher.message_ids
    assert publisher.message_ids == written


def test_a_turn_waits_twice_as_long_after_each_failure_up_to_the_longest_pause(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    publisher = RecordingPublisher(refuse)
    relay = OutboxRelay(engine, outbox, publisher, longest_retry_s=5)
    say(engine, outbox)
    assert relay.run_once().failed == 1
    for pause_s in (1, 2, 4, 5, 5):
        clock.forward(pause_s - 0.001)
        assert relay.run_once() == Relayed()
        clock.forward(0.001)
        assert relay.run_once().failed == 1


def test_a_turn_never_gives_a_message_up(engine: Engine, outbox: Outbox, clock: Clock) -> None:
    publisher = RecordingPublisher(refuse)
    relay = OutboxRelay(engine, outbox, publisher)
    [message_id] = say(engine, outbox)
    for _ in range(12):
        assert relay.run_once().failed == 1
        clock.forward(60)
    publisher.judge = None
    assert relay.run_once().confirmed == 1
    assert set(publisher.message_ids) == {message_id}


def test_a_turn_counts_no_attempt_when_the_broker_is_away(
    engine: Engine, outbox: Outbox, tables: Tables, clock: Clock
) -> None:
    publisher = RecordingPublisher(_broker_is_away)
    relay = OutboxRelay(engine, outbox, publisher)
    say(engine, outbox, 2)
    with pytest.raises(BrokerUnavailable):
        relay.run_once()
    with engine.connect() as connection:
        assert [row.attempts for row in connection.execute(select(tables.outbox))] == [0, 0]
    publisher.judge = None
    assert relay.run_once().confirmed == 2


def test_a_turn_deletes_nothing_when_the_publisher_breaks_its_promise_of_one_outcome_each(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    class Forgetful(RecordingPublisher):
        def publish_envelopes(self, items: object) -> list[Outcome]:
            return [None]

    say(engine, outbox, 2)
    relay = OutboxRelay(engine, outbox, Forgetful())
    with pytest.raises(ValueError, match="shorter"):
        relay.run_once()
    with engine.begin() as tx:
        assert outbox.backlog(tx).messages == 2


def test_a_turn_publishes_the_others_when_one_message_makes_the_publisher_stumble(
    engine: Engine, outbox: Outbox, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first, poison, last = say(engine, outbox, 3)

    def stumble(message: OutboundMessage) -> Outcome:
        if message.message_id == poison:
            raise LookupError("the topology has no route for it")
        return None

    publisher = RecordingPublisher(stumble)
    relay = OutboxRelay(engine, outbox, publisher)
    assert relay.run_once() == Relayed(confirmed=2, failed=1)
    assert {first, last} <= set(publisher.message_ids)
    assert "LookupError: the topology has no route for it" in caplog.text
    assert "Traceback" in caplog.text
    with engine.begin() as tx:
        assert outbox.backlog(tx).messages == 1


def test_a_turn_says_once_that_a_message_fails_and_nothing_of_what_it_holds(
    engine: Engine, outbox: Outbox, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as tx:
        message_id = outbox.add(tx, Said(word="geheim")).message_id
    relay = OutboxRelay(engine, outbox, RecordingPublisher(refuse))
    for _ in range(5):
        relay.run_once()
        clock.forward(60)
    [record] = caplog.records
    assert message_id in record.getMessage()
    assert "no queue takes it" in record.getMessage()
    assert "geheim" not in caplog.text


def test_a_message_that_the_database_cannot_store_the_error_of_keeps_no_batch(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    def say_what_no_database_stores(message: OutboundMessage) -> Outcome:
        return PublishRefused("not \0 nor \ud800")

    publisher = RecordingPublisher(say_what_no_database_stores)
    relay = OutboxRelay(engine, outbox, publisher)
    say(engine, outbox)
    assert relay.run_once().failed == 1


def test_a_turn_publishes_what_a_clock_that_was_set_back_has_behind_it(
    engine: Engine, outbox: Outbox, relay: OutboxRelay, publisher: RecordingPublisher, clock: Clock
) -> None:
    before = say(engine, outbox, 2)
    clock.forward(-3600)
    after = say(engine, outbox, 2)
    assert relay.run_once().confirmed == 4
    assert publisher.message_ids == before + after


def test_a_message_that_failed_waits_for_no_clock_that_was_set_back(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    publisher = RecordingPublisher(refuse)
    relay = OutboxRelay(engine, outbox, publisher, longest_retry_s=5)
    say(engine, outbox)
    assert relay.run_once().failed == 1
    clock.forward(-3600)
    publisher.judge = None
    relay.run_once()
    clock.forward(5)
    assert relay.run_once().confirmed == 1


def test_messages_of_a_destination_that_takes_nothing_are_behind_nobody_and_before_nobody(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    def say_to(key: str, count: int) -> list[str]:
        route = SimpleNamespace(exchange="x", routing_key=key)
        with engine.begin() as tx:
            return [outbox.add(tx, Said(word=key), route=route).message_id for _ in range(count)]

    publisher = RecordingPublisher(lambda m: Unroutable("-") if m.routing_key == "gone" else None)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=10)
    say_to("gone", 100)
    assert relay.run_once() == Relayed(failed=10)
    written = say_to("fine", 10)
    assert relay.run_once() == Relayed(confirmed=10, failed=10)
    assert [m.message_id for m in publisher.batches[1]] == written

    publisher.judge = None
    relay.run_once()
    clock.forward(60)
    assert sum(relay.run_once().confirmed for _ in range(10)) == 90
    gone = [m.message_id for m in chain(*publisher.batches[4:]) if m.routing_key == "gone"]
    assert len(set(gone)) == len(gone) == 90


def test_a_destination_that_takes_messages_again_waits_for_none_that_does_not(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    def say_to(key: str, count: int) -> list[str]:
        route = SimpleNamespace(exchange="x", routing_key=key)
        with engine.begin() as tx:
            return [outbox.add(tx, Said(word=key), route=route).message_id for _ in range(count)]

    publisher = RecordingPublisher(refuse)
    relay = OutboxRelay(engine, outbox, publisher, batch_size=10)
    say_to("back", 1)
    relay.run_once()
    say_to("gone", 100)
    relay.run_once()

    publisher.judge = lambda m: refuse(m) if m.routing_key == "gone" else None
    written = say_to("back", 1)
    assert relay.run_once().confirmed == 1
    assert written[0] in publisher.message_ids


def test_trouble_says_how_many_messages_failed_twice_and_why_until_they_are_published(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    errors: list[PublishError] = [
        Unroutable("a"),
        Unroutable("b"),
        PublishRefused("c"),
        NotConfirmed("d", sent=True),
        PublishError("e"),
    ]
    by_id = dict(zip(say(engine, outbox, len(errors)), errors, strict=True))
    publisher = RecordingPublisher(lambda message: by_id.get(message.message_id))
    relay = OutboxRelay(engine, outbox, publisher)
    another = OutboxRelay(engine, outbox, RecordingPublisher())

    relay.run_once()
    assert relay.trouble is None  # a queue may just be about to be there
    clock.forward(1)
    relay.run_once()
    clock.forward(1)
    say(engine, outbox)
    relay.run_once()
    assert relay.trouble == (
        "messages are not published: 2 unroutable, 1 other, 1 refused, 1 unconfirmed;"
        " the oldest for 2 s"
    )
    another.run_once()
    assert another.trouble == relay.trouble

    by_id.clear()
    clock.forward(60)
    assert relay.run_once().confirmed == 5
    relay.run_once()
    assert relay.trouble is None


def test_trouble_says_that_a_publisher_does_not_answer(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    said: list[str | None] = []

    def look(message: OutboundMessage) -> Outcome:
        wait_until(lambda: slow.trouble is not None, "the relay is in trouble")
        said.append(slow.trouble)
        return None

    publisher = RecordingPublisher(look)
    slow = OutboxRelay(engine, outbox, publisher, lease_s=0.01)
    say(engine, outbox)
    slow.run_once()
    assert said == ["the publisher has not answered for 0 s"]
    assert slow.trouble is None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_trouble_says_that_a_database_does_not_answer(
    engine: Engine, outbox: Outbox, publisher: RecordingPublisher, tables: Tables
) -> None:
    relay = OutboxRelay(engine, outbox, publisher, lease_s=0.5)
    with engine.begin() as tx:
        tx.exec_driver_sql(f"LOCK TABLE {tables.outbox.name} IN ACCESS EXCLUSIVE MODE")
        relay.start()
        wait_until(lambda: relay.trouble is not None, "the relay is in trouble", deadline_s=10)
        assert str(relay.trouble).startswith("a turn has not ended for ")
    wait_until(lambda: relay.trouble is None, "the relay goes on")
    assert relay.stop()


def test_rows_that_an_older_version_wrote_are_published_whatever_the_clock_says(
    engine: Engine, outbox: Outbox, tables: Tables, relay: OutboxRelay, clock: Clock
) -> None:
    say(engine, outbox, 3)
    was = {"available_at_us": to_us(clock()), "due_at_us": to_us(clock())}
    claimed = {"claimed_by": "host:4711:0a1b2c3d#9", "available_at_us": to_us(clock()) + 60_000_000}
    with engine.begin() as tx:
        tx.execute(update(tables.outbox).values(was))
        tx.execute(update(tables.outbox).where(tables.outbox.c.id == 3).values(claimed))
    clock.forward(-3600)
    relay.run_once()
    clock.forward(1)
    assert waiting(engine, outbox) == 1, "what was added is published, what is claimed is not"
    clock.forward(60)
    assert relay.run_once().confirmed == 1


def test_relays_of_one_name_have_claims_of_their_own(
    engine: Engine, outbox: Outbox, tables: Tables, clock: Clock
) -> None:
    """Or one that was slow would settle what another holds by now."""
    holders: set[str] = set()

    def look(message: OutboundMessage) -> Outcome:
        with engine.begin() as tx:
            holders.update(tx.execute(select(tables.outbox.c.claimed_by)).scalars())
        return None

    for _ in range(2):
        say(engine, outbox)
        OutboxRelay(engine, outbox, RecordingPublisher(look), name="same").run_once()
    assert len(holders) == 2


def test_what_a_slow_relay_held_too_long_is_published_twice_and_nothing_else_deleted(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    fast = RecordingPublisher()
    [old] = say(engine, outbox)
    new: list[str] = []

    def meanwhile(message: OutboundMessage) -> Outcome:
        clock.forward(60)
        OutboxRelay(engine, outbox, fast).run_once()
        new.extend(say(engine, outbox))
        return None

    slow = OutboxRelay(engine, outbox, RecordingPublisher(meanwhile), lease_s=60)
    assert slow.run_once().confirmed == 1
    assert fast.message_ids == [old]
    with engine.begin() as tx:
        assert outbox.backlog(tx).messages == 1
    OutboxRelay(engine, outbox, fast).run_once()
    assert fast.message_ids == [old, *new]


def _broker_is_away(message: OutboundMessage) -> Outcome:
    raise BrokerUnavailable("connection refused")

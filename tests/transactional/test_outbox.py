from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, event, inspect, text

from attune_mq.errors import MalformedMessage
from attune_mq.messaging.envelope import Envelope, decode
from attune_mq.messaging.payload_model import Payload
from attune_mq.transactional import (
    Backlog,
    ClaimedMessage,
    Failure,
    Outbox,
    Tables,
    define_tables,
    from_us,
    to_us,
)
from tests.transactional.conftest import Clock

LEASE = timedelta(seconds=60)


class Said(Payload):
    message_type = "Said"
    word: str


def say(engine: Engine, outbox: Outbox, *words: str, not_before: datetime | None = None) -> None:
    with engine.begin() as tx:
        for word in words:
            outbox.add(tx, Said(word=word), not_before=not_before)


def claim(
    engine: Engine, outbox: Outbox, *, by: str = "a", limit: int = 10
) -> list[ClaimedMessage]:
    with engine.begin() as tx:
        return outbox.claim(tx, claimed_by=by, limit=limit, lease=LEASE)


def words(rows: list[ClaimedMessage]) -> list[str]:
    return [json.loads(row.message.body)["payload"]["word"] for row in rows]


def test_headers_of_the_moment_are_kept_with_the_message(
    engine: Engine, tables: Tables, clock: Clock
) -> None:
    moments = iter([{"traceparent": "00-1-2-01"}, {}])
    outbox = Outbox(tables.outbox, headers=lambda: next(moments), now=clock)
    say(engine, outbox, "traced", "not traced")

    rows = claim(engine, outbox)
    assert words(rows) == ["traced", "not traced"]
    assert [row.message.headers for row in rows] == [{"traceparent": "00-1-2-01"}, None]


def test_what_is_added_is_what_is_published(engine: Engine, outbox: Outbox) -> None:
    with engine.begin() as tx:
        envelope = outbox.add(tx, Said(word="hello ☃ \0"), correlation_id="c-1")
    [row] = claim(engine, outbox)

    assert decode(row.message.body) == envelope
    assert envelope.headers.source_service == "tests"
    assert row.message.message_id == envelope.message_id
    assert row.message.correlation_id == "c-1"
    assert row.message.message_type == "Said"
    assert row.message.timestamp == envelope.timestamp
    assert (row.message.exchange, row.message.routing_key) == (None, None)
    assert row.attempts == 0


def test_a_message_may_carry_its_own_route_also_through_the_default_exchange(
    engine: Engine, outbox: Outbox
) -> None:
    with engine.begin() as tx:
        route = SimpleNamespace(exchange="", routing_key="worker.7.executions")
        outbox.add(tx, Said(word="to you"), route=route)
    [row] = claim(engine, outbox)
    assert (row.message.exchange, row.message.routing_key) == ("", "worker.7.executions")


def test_an_envelope_keeps_its_id(engine: Engine, outbox: Outbox) -> None:
    envelope = Envelope.of(Said(word="again"), message_id="m-1")
    with engine.begin() as tx:
        outbox.add_envelope(tx, envelope)
    [row] = claim(engine, outbox)
    assert row.message.message_id == "m-1"


def test_what_is_rolled_back_is_never_published(engine: Engine, outbox: Outbox) -> None:
    with engine.connect() as tx:
        outbox.add(tx, Said(word="no"))
        tx.rollback()
    assert claim(engine, outbox) == []


def test_what_does_not_fit_the_wire_is_refused_when_it_is_added(
    engine: Engine, outbox: Outbox
) -> None:
    with engine.begin() as tx, pytest.raises(MalformedMessage):
        outbox.add(tx, Said(word="hello"), correlation_id="x" * 256)


def test_messages_are_claimed_the_longest_due_first_and_up_to_the_limit(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "third", not_before=clock() + timedelta(seconds=2))
    say(engine, outbox, "first", "second")
    clock.forward(2)
    say(engine, outbox, "fourth")

    assert words(claim(engine, outbox, limit=2)) == ["first", "second"]
    assert words(claim(engine, outbox, limit=3)) == ["third", "fourth"]


def test_a_delayed_message_is_not_claimed_before_its_time(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "later", not_before=clock() + timedelta(seconds=5))
    clock.forward(4.999_999)
    assert claim(engine, outbox) == []
    clock.forward(0.000_001)
    assert words(claim(engine, outbox)) == ["later"]


def test_a_claim_holds_until_its_lease_ends(engine: Engine, outbox: Outbox, clock: Clock) -> None:
    say(engine, outbox, "hello")
    assert words(claim(engine, outbox, by="a")) == ["hello"]
    clock.forward(LEASE.total_seconds() - 1)
    assert claim(engine, outbox, by="b") == []
    clock.forward(1)
    assert words(claim(engine, outbox, by="b")) == ["hello"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_claims_made_at_the_same_time_neither_overlap_nor_wait_on_postgresql(
    engine: Engine, outbox: Outbox
) -> None:
    say(engine, outbox, "one", "two", "three", "four", "five")
    with engine.begin() as a, engine.begin() as b:
        b.execute(text("SET LOCAL lock_timeout = '10s'"))  # fail, do not hang
        first = outbox.claim(a, claimed_by="a", limit=2, lease=LEASE)
        second = outbox.claim(b, claimed_by="b", limit=2, lease=LEASE)
    assert words(first) == ["one", "two"]
    assert words(second) == ["three", "four"]
    assert words(claim(engine, outbox)) == ["five"]


def test_the_confirmed_are_deleted_and_the_others_stay(engine: Engine, outbox: Outbox) -> None:
    say(engine, outbox, "one", "two")
    one, two = claim(engine, outbox)
    with engine.begin() as tx:
        outbox.delete_confirmed(tx, [one.row_id])
        outbox.release(tx, [one.row_id, two.row_id], claimed_by="a")
    assert words(claim(engine, outbox)) == ["two"]


def test_the_id_of_a_deleted_row_is_never_given_again(engine: Engine, outbox: Outbox) -> None:
    """A relay that was slow deletes by id what it published: it must not hit a later message."""
    say(engine, outbox, "old")
    [old] = claim(engine, outbox)
    with engine.begin() as tx:
        outbox.delete_confirmed(tx, [old.row_id])
    say(engine, outbox, "new")
    with engine.begin() as tx:
        outbox.delete_confirmed(tx, [old.row_id])
    assert words(claim(engine, outbox)) == ["new"]


def test_a_failed_message_is_free_again_at_its_next_attempt_and_counts_it(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "hello")
    [row] = claim(engine, outbox, by="a")
    with engine.begin() as tx:
        failure = Failure(row.row_id, "Unroutable: no queue", clock() + timedelta(seconds=3))
        outbox.postpone_failed(tx, [failure], claimed_by="a")
    assert claim(engine, outbox) == []
    clock.forward(3)
    [again] = claim(engine, outbox)
    assert again.attempts == 1
    assert again.message == row.message


def test_who_lost_a_claim_neither_postpones_nor_releases_it(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "hello")
    [row] = claim(engine, outbox, by="a")
    clock.forward(LEASE.total_seconds())
    claim(engine, outbox, by="b")
    with engine.begin() as tx:
        outbox.postpone_failed(tx, [Failure(row.row_id, "late", clock())], claimed_by="a")
        outbox.release(tx, [row.row_id], claimed_by="a")
    assert claim(engine, outbox, by="c") == []


def test_the_backlog_is_what_is_due_and_how_old_the_oldest_of_it_is(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    with engine.begin() as tx:
        assert outbox.backlog(tx) == Backlog(0, 0.0)
    say(engine, outbox, "old")
    clock.forward(2.5)
    say(engine, outbox, "new")
    say(engine, outbox, "later", not_before=clock() + timedelta(seconds=10))
    claim(engine, outbox, limit=1)
    with engine.begin() as tx:
        messages, oldest_age_s = outbox.backlog(tx)
    assert (messages, oldest_age_s) == (2, 2.5)


def test_tables_carry_the_prefix_so_that_two_services_may_share_a_database(engine: Engine) -> None:
    metadata = MetaData()
    define_tables(metadata, prefix="billing_")
    define_tables(metadata, prefix="audit_")
    metadata.create_all(engine)
    names = {"billing_inbox", "billing_outbox", "audit_inbox", "audit_outbox"}
    assert set(inspect(engine).get_table_names()) == names


def test_a_moment_comes_back_to_the_microsecond() -> None:
    for moment in (
        datetime(2026, 9, 3, 12, 34, 56, 789_123, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ):
        assert from_us(to_us(moment)) == moment


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        to_us(datetime(2026, 9, 3, 12))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_claim_looks_only_at_what_is_due_however_long_the_backlog(
    engine: Engine, outbox: Outbox
) -> None:
    statements: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def remember(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    claim(engine, outbox)
    statement, parameters = next(s for s in statements if "UPDATE" in s[0])
    with engine.connect() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    plan = [step.detail for step in steps]
    assert any("attune_outbox_available_at (available_at_us<?)" in step for step in plan)
    assert not any("TEMP B-TREE" in step or step.startswith("SCAN attune") for step in plan)

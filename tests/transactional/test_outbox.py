from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, event, inspect, text

from attune_mq.errors import MalformedMessage
from attune_mq.message.envelope import Envelope, decode
from attune_mq.message.payload import Payload
from attune_mq.transactional import (
    Backlog,
    ClaimedMessage,
    Failing,
    Failure,
    Outbox,
    Tables,
    define_tables,
    from_us,
    to_us,
)
from attune_mq.transactional.outbox_rows import To
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


def limit_waits(engine: Engine, outbox: Outbox) -> None:
    with engine.begin() as tx:
        outbox.limit_waits(tx, lease=LEASE, longest_retry=LEASE)


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


def test_messages_are_claimed_in_the_order_in_which_they_were_added_and_up_to_the_limit(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "first", "second")
    clock.forward(-3600)
    say(engine, outbox, "third", "fourth")
    clock.forward(7200)
    say(engine, outbox, "fifth")

    assert words(claim(engine, outbox, limit=2)) == ["first", "second"]
    clock.forward(-86400)
    assert words(claim(engine, outbox, limit=9)) == ["third", "fourth", "fifth"]


def test_what_waited_has_a_quarter_of_a_claim_and_all_that_is_left_of_it(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, *"abc", not_before=clock() + timedelta(seconds=1))
    say(engine, outbox, *"ABCDEF")
    clock.forward(1)

    assert words(claim(engine, outbox, limit=4)) == ["a", "A", "B", "C"]
    assert words(claim(engine, outbox, limit=6)) == ["b", "c", "D", "E", "F"]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_what_waited_is_not_kept_back_by_small_claims_of_what_is_ready(
    engine: Engine, outbox: Outbox, clock: Clock, limit: int
) -> None:
    say(engine, outbox, "waited", not_before=clock() + timedelta(seconds=1))
    say(engine, outbox, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 3)
    clock.forward(1)

    seen = [words(claim(engine, outbox, limit=limit)) for _ in range(26)]
    place = next((place for place, taken in enumerate(seen) if "waited" in taken), None)
    assert place is not None, "it came behind all that is ready"
    assert place == 0 or limit == 1
    assert all("A" <= taken[-1] <= "Z" for taken in seen if taken != ["waited"])


def test_a_moment_that_is_over_delays_nothing(engine: Engine, outbox: Outbox, clock: Clock) -> None:
    say(engine, outbox, "since ever", not_before=datetime.min.replace(tzinfo=UTC))
    say(engine, outbox, "now", not_before=clock())
    clock.forward(-3600)
    assert words(claim(engine, outbox)) == ["since ever", "now"]


def test_the_backlog_counts_what_was_added_before_the_clock_was_set_back(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "ready", "claimed", "failed")
    claim(engine, outbox, limit=2)
    [row] = claim(engine, outbox, by="b", limit=1)
    with engine.begin() as tx:
        failure = Failure(row.row_id, "Unroutable: no queue", LEASE)
        outbox.postpone_failed(tx, [failure], claimed_by="b")
    clock.forward(-3600)
    with engine.begin() as tx:
        assert outbox.backlog(tx) == Backlog(3, 0.0)
        assert outbox.failing(tx) == (Failing("unroutable", 1, 0.0),)


def test_no_wait_outlasts_a_clock_that_was_set_back_by_more_than_once_its_length(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "claimed")
    claim(engine, outbox, by="dead")
    say(engine, outbox, "failed")
    [row] = claim(engine, outbox, by="b")
    with engine.begin() as tx:
        outbox.postpone_failed(tx, [Failure(row.row_id, "-", LEASE)], claimed_by="b")
    say(engine, outbox, "delayed", not_before=clock() + timedelta(seconds=90))

    clock.forward(-3600)
    limit_waits(engine, outbox)
    clock.forward(59)
    limit_waits(engine, outbox)
    assert claim(engine, outbox) == []
    clock.forward(1)
    assert words(claim(engine, outbox)) == ["claimed", "failed"]
    clock.forward(29)
    assert claim(engine, outbox) == []
    clock.forward(1)
    assert words(claim(engine, outbox)) == ["delayed"]


def test_no_wait_is_shortened_while_the_clock_goes_on(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    say(engine, outbox, "tomorrow", not_before=clock() + timedelta(days=1))
    clock.forward(-0.5)  # of a host whose clock is a little behind
    limit_waits(engine, outbox)
    clock.forward(86_400)
    limit_waits(engine, outbox)
    assert claim(engine, outbox) == []
    clock.forward(0.5)
    assert words(claim(engine, outbox)) == ["tomorrow"]


def test_an_envelope_of_a_far_future_leaves_all_the_same(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    far = Envelope.of(
        Said(word="far"), source_service="tests", now=datetime(9999, 1, 1, tzinfo=UTC)
    )
    with engine.begin() as tx:
        outbox.add_envelope(tx, far, not_before=clock() + timedelta(minutes=1))
    limit_waits(engine, outbox)
    clock.forward(60)
    assert words(claim(engine, outbox)) == ["far"]


def test_a_claim_may_be_of_some_destinations_or_of_all_others(
    engine: Engine, outbox: Outbox, clock: Clock
) -> None:
    for at, key in enumerate(["gone", "fine", None, "gone"]):
        route = None if key is None else SimpleNamespace(exchange="x", routing_key=key)
        with engine.begin() as tx:
            later = clock() + timedelta(seconds=at % 2)
            outbox.add(tx, Said(word=f"{at} {key}"), route=route, not_before=later)
    clock.forward(1)

    def claim_of(to: To, *destinations: str) -> list[str]:
        with engine.begin() as tx:
            rows = outbox.claim(
                tx, claimed_by="a", limit=10, lease=LEASE, to=to, destinations=destinations
            )
        assert all((row.destination in destinations) == (to == "these") for row in rows)
        return words(rows)

    assert claim_of("these", "Said") == ["2 None"]
    assert claim_of("others", "x gone", "x elsewhere") == ["1 fine"]
    assert claim_of("these", "x gone") == ["0 gone", "3 gone"]


def test_what_fails_is_told_by_its_cause(engine: Engine, outbox: Outbox, clock: Clock) -> None:
    errors = ["Unroutable: a", "PublishRefused: b", "NotConfirmed: c", "LookupError: d"]
    for error in [*errors, "Unroutable: e"]:
        say(engine, outbox, error)
        [row] = claim(engine, outbox)
        with engine.begin() as tx:
            outbox.postpone_failed(tx, [Failure(row.row_id, error, LEASE)], claimed_by="a")
        clock.forward(1)
    say(engine, outbox, "well")

    with engine.begin() as tx:
        assert outbox.failing(tx) == (
            Failing("unroutable", 2, 5.0),
            Failing("other", 1, 2.0),
            Failing("refused", 1, 4.0),
            Failing("unconfirmed", 1, 3.0),
        )
        assert outbox.failing(tx, attempts=2) == ()


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
        failure = Failure(row.row_id, "Unroutable: no queue", timedelta(seconds=3))
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
        outbox.postpone_failed(tx, [Failure(row.row_id, "late", timedelta(0))], claimed_by="a")
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


@pytest.mark.parametrize(
    ("number", "bounds"), [(0, ">? AND available_at_us<?"), (1, "=?")], ids=["waiting", "ready"]
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_claim_looks_only_at_what_is_due_however_long_the_backlog(
    engine: Engine, outbox: Outbox, number: int, bounds: str
) -> None:
    statements: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def remember(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    claim(engine, outbox)
    statement, parameters = [s for s in statements if "UPDATE" in s[0]][number]
    with engine.connect() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    plan = [step.detail for step in steps]
    assert any(f"attune_outbox_available_at (available_at_us{bounds})" in step for step in plan)
    assert not any("TEMP B-TREE" in step or step.startswith("SCAN attune") for step in plan)

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import Engine, MetaData

from attune_mq.transactional import Inbox, Tables, define_tables

NOON = datetime(2026, 9, 3, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def tables(engine: Engine) -> Tables:
    metadata = MetaData()
    tables = define_tables(metadata)
    metadata.create_all(engine)
    return tables


@pytest.fixture
def inbox(tables: Tables) -> Inbox:
    return Inbox(tables.inbox)


def test_an_id_is_accepted_once(engine: Engine, inbox: Inbox) -> None:
    with engine.begin() as tx:
        assert inbox.accept(tx, "m-1", consumer="executor.enforcement")
    with engine.begin() as tx:
        assert not inbox.accept(tx, "m-1", consumer="executor.enforcement")
        assert inbox.accept(tx, "m-2", consumer="executor.enforcement")


def test_an_id_is_refused_a_second_time_in_the_same_transaction(
    engine: Engine, inbox: Inbox
) -> None:
    with engine.begin() as tx:
        assert inbox.accept(tx, "m-1", consumer="executor.enforcement")
        assert not inbox.accept(tx, "m-1", consumer="executor.enforcement")


def test_what_one_consumer_accepted_is_refused_to_its_competitors(
    engine: Engine, inbox: Inbox
) -> None:
    with engine.begin() as tx:
        assert inbox.accept(tx, "m-1", consumer="executor.enforcement")
        assert not inbox.accept(tx, "m-1", consumer="executor.scheduler")


def test_every_scope_accepts_an_id_once(engine: Engine, tables: Tables) -> None:
    audit = Inbox(tables.inbox, scope="audit")
    billing = Inbox(tables.inbox, scope="billing")
    with engine.begin() as tx:
        assert audit.accept(tx, "m-1", consumer="audit")
        assert billing.accept(tx, "m-1", consumer="billing")
        assert not billing.accept(tx, "m-1", consumer="billing")


def test_an_id_is_free_again_after_a_rollback(engine: Engine, inbox: Inbox) -> None:
    with engine.connect() as tx:
        assert inbox.accept(tx, "m-1", consumer="executor.enforcement")
        tx.rollback()
    with engine.begin() as tx:
        assert inbox.accept(tx, "m-1", consumer="executor.enforcement")


@pytest.mark.parametrize("first_commits", [True, False])
def test_the_second_of_two_transactions_waits_for_the_first_and_then_knows(
    engine: Engine, inbox: Inbox, first_commits: bool
) -> None:
    def second() -> bool:
        with engine.begin() as tx:
            return inbox.accept(tx, "m-1", consumer="executor.scheduler")

    with ThreadPoolExecutor(1) as pool, engine.connect() as first:
        assert inbox.accept(first, "m-1", consumer="executor.enforcement")
        outcome = pool.submit(second)
        finished, _ = wait([outcome], timeout=0.2)
        assert not finished, "the second transaction did not wait for the first"
        first.commit() if first_commits else first.rollback()
        assert outcome.result(timeout=30) is not first_commits


def test_many_transactions_at_once_accept_each_id_exactly_once(
    engine: Engine, inbox: Inbox
) -> None:
    threads, ids = 6, [f"m-{number}" for number in range(20)]
    start = Barrier(threads)

    def accept_all(consumer: int) -> int:
        start.wait()
        accepted = 0
        for message_id in ids:
            with engine.begin() as tx:
                accepted += inbox.accept(tx, message_id, consumer=f"executor.{consumer}")
        return accepted

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(accept_all, range(threads))) == len(ids)


def test_ids_accepted_before_the_cutoff_are_forgotten_the_oldest_first(
    engine: Engine, tables: Tables
) -> None:
    clock = Clock()
    inbox = Inbox(tables.inbox, now=clock)
    with engine.begin() as tx:
        for day in range(4):
            clock.moment = NOON + timedelta(days=day)
            inbox.accept(tx, f"day-{day}", consumer="executor.enforcement")
        cutoff = NOON + timedelta(days=3)
        assert inbox.forget_before(tx, cutoff, limit=2) == 2
        assert not inbox.accept(tx, "day-2", consumer="executor.enforcement")
        assert inbox.forget_before(tx, cutoff) == 1
        assert inbox.forget_before(tx, cutoff) == 0
        assert not inbox.accept(tx, "day-3", consumer="executor.enforcement")
        assert inbox.accept(tx, "day-0", consumer="executor.enforcement")


def test_forgetting_keeps_to_its_scope(engine: Engine, tables: Tables) -> None:
    audit = Inbox(tables.inbox, scope="audit", now=lambda: NOON)
    billing = Inbox(tables.inbox, scope="billing", now=lambda: NOON)
    with engine.begin() as tx:
        audit.accept(tx, "m-1", consumer="audit")
        billing.accept(tx, "m-1", consumer="billing")
        assert audit.forget_before(tx, NOON + timedelta(seconds=1)) == 1
        assert not billing.accept(tx, "m-1", consumer="billing")


def test_counts_say_which_consumer_took_how_many(engine: Engine, inbox: Inbox) -> None:
    with engine.begin() as tx:
        inbox.accept(tx, "m-1", consumer="executor.enforcement")
        inbox.accept(tx, "m-2", consumer="executor.enforcement")
        inbox.accept(tx, "m-2", consumer="executor.manager")
        inbox.accept(tx, "m-3", consumer="executor.scheduler", message_type="ExecutionRequested")
        assert inbox.counts_by_consumer(tx) == {"executor.enforcement": 2, "executor.scheduler": 1}


def test_an_id_may_hold_any_character(engine: Engine, inbox: Inbox) -> None:
    odd = "'; DROP TABLE attune_inbox; -- ü☃ %s :x" + "x" * 255
    with engine.begin() as tx:
        assert inbox.accept(tx, odd, consumer="executor.enforcement")
        assert not inbox.accept(tx, odd, consumer="executor.enforcement")

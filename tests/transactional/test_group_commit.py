from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, select

from attune_mq.errors import DatabaseUnavailable, NotSynchronous
from attune_mq.transactional import GroupCommit, Inbox, Tables, create_database_engine

who: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture
def inbox(tables: Tables) -> Inbox:
    return Inbox(tables.inbox)


@pytest.fixture
def commits(engine: Engine, tables: Tables) -> list[None]:
    """One for each commit since."""
    seen: list[None] = []
    event.listen(engine, "commit", lambda _: seen.append(None))
    return seen


def taking(inbox: Inbox, message_id: str) -> Callable[[Connection], None]:
    def work(tx: Connection) -> None:
        assert inbox.accept(tx, message_id, consumer=who.get())

    return work


def taken(engine: Engine, tables: Tables) -> dict[str, str]:
    inbox = tables.inbox
    with engine.begin() as tx:
        return {row.message_id: row.consumer for row in tx.execute(select(inbox))}


class Together:
    """Works that are asked for while another has the turn, in the order of ``ask``."""

    def __init__(self, group: GroupCommit, pool: ThreadPoolExecutor) -> None:
        self._group = group
        self._pool = pool
        self._go = threading.Event()
        self.asked: list[Future[None]] = []
        begun = threading.Event()

        def first(_: Connection) -> None:
            begun.set()
            assert self._go.wait(30)

        self._first = pool.submit(group.commit, first)
        assert begun.wait(30)

    def ask(self, work: Callable[[Connection], None], name: str = "nobody") -> Future[None]:
        def one() -> None:
            who.set(name)
            self._group.commit(work)

        before = self._group.waiting
        future = self._pool.submit(one)
        while self._group.waiting == before:  # nobody tells that it waits
            time.sleep(0.001)
        self.asked.append(future)
        return future

    def go(self) -> None:
        self._go.set()
        self._first.result(30)


@pytest.fixture
def together(engine: Engine, tables: Tables) -> Iterator[Together]:
    with ThreadPoolExecutor(4) as pool:
        yield Together(GroupCommit(engine), pool)


def test_one_work_is_committed_when_the_call_returns(
    engine: Engine, tables: Tables, inbox: Inbox
) -> None:
    GroupCommit(engine).commit(taking(inbox, "a"))
    assert taken(engine, tables) == {"a": "nobody"}


def test_what_waits_for_the_turn_is_committed_in_one_transaction(
    together: Together, commits: list[None], inbox: Inbox, engine: Engine, tables: Tables
) -> None:
    for name in "abc":
        together.ask(taking(inbox, name))
    together.go()
    for future in together.asked:
        future.result(30)
    assert len(commits) == 2, "the first, and one for the three"
    assert set(taken(engine, tables)) == set("abc")


def test_a_work_that_fails_takes_no_other_along(
    together: Together, inbox: Inbox, engine: Engine, tables: Tables
) -> None:
    def failing(tx: Connection) -> None:
        taking(inbox, "bad")(tx)
        raise ValueError("this one")

    good = together.ask(taking(inbox, "a"))
    bad = together.ask(failing)
    also_good = together.ask(taking(inbox, "b"))
    together.go()
    good.result(30)
    also_good.result(30)
    with pytest.raises(ValueError, match="this one"):
        bad.result(30)
    assert set(taken(engine, tables)) == {"a", "b"}


def test_a_work_that_fails_alone_is_not_tried_twice(engine: Engine) -> None:
    calls = []

    def failing(_: Connection) -> None:
        calls.append(1)
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        GroupCommit(engine).commit(failing)
    assert calls == [1]


def test_who_is_interrupted_while_committing_for_others_is_told_and_they_are_served(
    together: Together, inbox: Inbox, engine: Engine, tables: Tables
) -> None:
    """As by a signal, which comes once and to whoever is at it."""
    calls = []

    def interrupted_once(tx: Connection) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        taking(inbox, "a")(tx)

    asked = {
        name: together.ask(work)
        for name, work in [("a", interrupted_once), ("b", taking(inbox, "b"))]
    }
    together.go()
    interrupted = {
        n for n, one in asked.items() if isinstance(one.exception(30), KeyboardInterrupt)
    }
    assert len(interrupted) == 1
    assert set(taken(engine, tables)) == {"a", "b"} - interrupted


def test_each_work_runs_in_the_context_of_who_asked(
    together: Together, inbox: Inbox, engine: Engine, tables: Tables
) -> None:
    for name in "abc":
        together.ask(taking(inbox, name), name=f"of {name}")
    together.go()
    for future in together.asked:
        future.result(30)
    assert taken(engine, tables) == {"a": "of a", "b": "of b", "c": "of c"}


def test_a_database_that_is_away_is_told_to_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'locked.db'}"
    group = GroupCommit(create_database_engine(url, busy_timeout_ms=50))
    with create_database_engine(url).begin(), ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(group.commit, lambda tx: None) for _ in range(3)]
        for future in asked:
            with pytest.raises(DatabaseUnavailable):
                future.result(30)


def test_a_work_that_did_not_run_is_not_committed(engine: Engine, commits: list[None]) -> None:
    async def work(_tx: Connection) -> None: ...

    with pytest.raises(NotSynchronous, match="the work returned an awaitable"):
        GroupCommit(engine).commit(work)  # type: ignore[arg-type]

    assert commits == []

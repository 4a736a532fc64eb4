"""Who claimed rows and is gone is known where it can be, and nobody else is taken for gone."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text

from attune_mq.transactional.claim_holders import (
    AdvisoryLock,
    Identity,
    LockFile,
    RelayLock,
    gone,
    lock_on,
)
from tests.waiting import wait_until


def shown(engine: Engine) -> tuple[RelayLock, str]:
    identity = Identity("relay of a/b#1")
    lock = lock_on(engine, identity.id)
    lock.take()
    return lock, identity.claim_name()


def found_gone(engine: Engine, lock: RelayLock, *claims: str) -> set[str]:
    with engine.begin() as tx:
        return gone(lock, tx, set(claims))


def test_who_lives_is_not_gone_and_who_let_go_is(engine: Engine) -> None:
    (first, claim), (second, another) = shown(engine), shown(engine)
    assert found_gone(engine, first, claim, another) == set()
    assert found_gone(engine, second, claim, another) == set()

    second.release()
    wait_until(lambda: found_gone(engine, first, claim, another) == {another}, "it is gone")
    second.take()
    assert found_gone(engine, first, claim, another) == set()
    first.release()
    second.release()


def test_of_claims_that_an_older_version_named_nothing_is_known(engine: Engine) -> None:
    lock, claim = shown(engine)
    assert found_gone(engine, lock, "host:4711:0a1b2c3d#1", "mine#1", claim) == set()
    lock.release()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_lost_its_session_shows_itself_again(engine: Engine) -> None:
    (first, _), (second, claim) = shown(engine), shown(engine)
    assert isinstance(second, AdvisoryLock)
    assert second._session is not None
    pid = second._session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with engine.begin() as tx:
        tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    wait_until(lambda: found_gone(engine, first, claim) == {claim}, "its session has ended")

    second.take()
    assert found_gone(engine, first, claim) == set()
    first.release()
    second.release()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_lost_its_session_does_not_wait_for_a_server_that_has_not_noticed(
    engine: Engine,
) -> None:
    (first, _), (second, claim) = shown(engine), shown(engine)
    assert isinstance(second, AdvisoryLock)
    with the_servers_end_kept(second):
        again = threading.Thread(target=second.take, daemon=True)
        again.start()
        again.join(10)
        assert not again.is_alive(), "it waits for the lock that its own old session has"
        assert found_gone(engine, first, claim) == set()

    wait_until(lambda: found_gone(engine, first, claim) == {claim}, "the old session has ended")
    second.take()
    assert found_gone(engine, first, claim) == set()
    first.release()
    second.release()


@contextmanager
def the_servers_end_kept(lock: AdvisoryLock) -> Iterator[None]:
    """The session is cut for this side only: to the server it is as it was."""
    assert lock._session is not None
    session = lock._session.connection.dbapi_connection
    assert isinstance(session, psycopg.Connection)
    descriptor = session.fileno()
    kept = os.dup(descriptor)
    ours, theirs = socket.socketpair()
    theirs.close()
    os.dup2(ours.fileno(), descriptor)
    ours.close()
    try:
        yield
    finally:
        os.close(kept)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_lock_takes_no_connection_of_the_pool(engine: Engine) -> None:
    lock, _ = shown(engine)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    lock.release()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_file_of_who_is_gone_is_deleted_once_nothing_is_claimed_by_it(
    engine: Engine, tmp_path: Path
) -> None:
    (first, _), (second, claim) = shown(engine), shown(engine)
    second.release()
    assert found_gone(engine, first, claim) == {claim}
    assert len(list(tmp_path.glob("test.db-relay-*"))) == 2
    found_gone(engine, first)
    [own] = tmp_path.glob("test.db-relay-*")
    first.release()

    third, _ = shown(engine)
    found_gone(engine, third)
    assert not own.exists()
    third.release()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_of_who_cannot_make_its_file_nothing_is_known(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = Identity("relay")
    (tmp_path / f"test.db-relay-{identity.id}").mkdir()
    without = LockFile(engine, identity.id)
    without.take()
    assert "its claims end by lease" in caplog.text
    (tmp_path / f"test.db-relay-{identity.id}").rmdir()

    lock, _ = shown(engine)
    assert found_gone(engine, lock, identity.claim_name()) == set()
    lock.release()
    without.release()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_on_a_file_system_without_locks_nothing_is_known_and_nothing_is_left_open(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (first, _), (second, claim) = shown(engine), shown(engine)
    second.release()
    monkeypatch.setattr(fcntl, "flock", refused)
    without, _ = shown(engine)
    assert "its claims end by lease" in caplog.text

    assert found_gone(engine, first, claim) == set()
    first.release()
    without.release()
    assert lock_files_open() == []


def lock_files_open() -> list[str]:
    ours = Path("/proc/self/fd")
    targets = [os.readlink(one) for one in ours.iterdir() if one.is_symlink()]
    return [one for one in targets if "test.db-relay-" in one]


def refused(descriptor: int, operation: int) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_file_that_cannot_be_deleted_hides_nobody(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, _), (second, _), (third, claim) = shown(engine), shown(engine), shown(engine)
    second.release()
    third.release()
    monkeypatch.setattr(Path, "unlink", not_permitted)
    assert found_gone(engine, first, claim) == {claim}
    first.release()


def not_permitted(file: Path, missing_ok: bool = False) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(file))

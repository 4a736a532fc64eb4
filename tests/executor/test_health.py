"""The executor tells of its health: the database and the relay as well, and by a command."""

from __future__ import annotations

import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pika
import psycopg
import pytest

from attune_executor.__main__ import main, reachable
from attune_executor.settings import ExecutorSettings
from attune_executor.tables import messages
from attune_mq import InvalidInput, Route
from attune_mq.transactional import Outbox, database_watch
from tests.databases import PostgreSQLServer
from tests.executor.harness import (
    SHIPPED,
    enforcement,
    eventually,
    free_port,
    is_red,
    ready,
    running,
    settings_for,
)
from tests.executor.test_executor_process import ExecutorProcess


def test_an_answer_of_the_database_is_good_for_less_than_two_seconds() -> None:
    assert database_watch.GOOD_FOR_S < 2.0


def test_a_locked_sqlite_file_is_seen_without_any_message(tmp_path: Path, broker_url: str) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, health_port=free_port())
    with running(settings) as harness:
        eventually(lambda: ready(harness))
        other = sqlite3.connect(tmp_path / "attune.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")

        eventually(lambda: is_red(harness, "database"))
        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: ready(harness))


def test_a_postgresql_that_is_stopped_and_one_whose_table_is_locked_are_seen(
    tmp_path: Path, broker_url: str, postgresql_server: PostgreSQLServer, postgresql_url: str
) -> None:
    port = free_port()
    with running(
        settings_for(tmp_path, broker_url, SHIPPED, postgresql_url, health_port=port)
    ) as harness:
        eventually(lambda: ready(harness))
        with psycopg.connect(postgresql_url) as other:
            other.execute("LOCK TABLE attune_inbox IN SHARE MODE")
            eventually(lambda: is_red(harness, "database"))
        eventually(lambda: ready(harness))
        postgresql_server.stop()
        try:
            eventually(lambda: is_red(harness, "database"))
        finally:
            postgresql_server.start()
        eventually(lambda: ready(harness))


def test_a_relay_that_does_not_run_is_seen(tmp_path: Path, broker_url: str) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, health_port=free_port())
    with running(settings) as harness:
        eventually(lambda: ready(harness))
        harness.executor.transactions.relay.stop()

        assert is_red(harness, "outbox relay")


def test_a_message_of_the_outbox_that_no_queue_takes_is_seen_until_one_does(
    tmp_path: Path, broker_url: str
) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, health_port=free_port())
    with (
        running(settings) as harness,
        pika.BlockingConnection(pika.URLParameters(broker_url)) as other,
    ):
        eventually(lambda: ready(harness))
        with harness.executor.engine.begin() as tx:
            Outbox(messages.outbox).add(tx, enforcement(1), route=Route("", "not.there"))
        eventually(lambda: is_red(harness, "outbox relay"))
        assert harness.executor.health is not None
        [trouble] = harness.executor.health.monitor.ready().troubles
        assert trouble.why.startswith("messages are not published: 1 unroutable; the oldest for")
        [failing] = harness.executor.transactions.failing()
        assert (failing.cause, failing.messages) == ("unroutable", 1)

        other.channel().queue_declare("not.there", exclusive=True)
        eventually(lambda: ready(harness))


def test_a_binding_that_is_deleted_is_seen_by_the_http_api(
    observed: ExecutorSettings, broker_url: str
) -> None:
    with (
        running(observed) as harness,
        pika.BlockingConnection(pika.URLParameters(broker_url)) as other,
    ):
        eventually(lambda: ready(harness))
        other.channel().queue_unbind("attune.executions.queue", "attune.executions", "execution")

        eventually(lambda: is_red(harness, "topology"))


def test_an_executor_under_load_stays_green(tmp_path: Path, broker_url: str) -> None:
    settings = settings_for(tmp_path, broker_url, SHIPPED, health_port=free_port())
    with running(settings) as harness, harness.worker(), harness.publisher() as publisher:
        eventually(lambda: ready(harness))
        publisher.publish_many(enforcement(number) for number in range(200))
        seen: set[str] = set()

        def is_done() -> bool:
            assert harness.executor.health is not None
            seen.update(one.check for one in harness.executor.health.monitor.ready().troubles)
            return harness.executions() == {"completed": 200}

        eventually(is_done, within_s=60)
        assert "database" not in seen


def test_the_command_asks_the_process_beside_it(
    tmp_path: Path, broker_url: str, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    assert main(["health", "--url", url]) == 1
    assert "does not answer" in capsys.readouterr().out
    executor = ExecutorProcess(tmp_path, broker_url, sqlite_url, "--health-port", str(port))
    try:
        eventually(lambda: main(["health", "--url", url]) == 0)
        capsys.readouterr()
        assert main(["health", "--live", "--url", f"{url}/"]) == 0
        assert capsys.readouterr().out == ""
        executor.process.send_signal(signal.SIGSTOP)  # it stands still, and so does its health

        assert main(["health", "--live", "--url", url]) == 1
    finally:
        executor.process.send_signal(signal.SIGCONT)
        assert executor.end(signal.SIGTERM) == 0


def test_the_command_finds_the_executor_by_its_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATTUNE_HEALTH_HOST", "0.0.0.0")
    monkeypatch.setenv("ATTUNE_HEALTH_PORT", "1")

    assert main(["health"]) == 1
    assert "http://127.0.0.1:1/readyz does not answer" in capsys.readouterr().out


def test_the_command_says_that_there_is_nobody_to_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATTUNE_HEALTH_PORT", "0")

    assert main(["health"]) == 2
    assert "health_port is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "shown"), [("10.0.0.7", "10.0.0.7"), ("::", "[::1]"), ("::1", "[::1]")]
)
def test_an_address_is_written_as_a_url_has_it(host: str, shown: str) -> None:
    assert reachable(host) == shown


def test_the_port_of_another_executor_is_an_error_that_says_what_to_do(
    tmp_path: Path, broker_url: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        settings = settings_for(tmp_path, broker_url, SHIPPED, health_port=port)

        with (
            pytest.raises(InvalidInput, match=f"port {port} of 127.0.0.1 is taken"),
            running(settings),
        ):
            pass
